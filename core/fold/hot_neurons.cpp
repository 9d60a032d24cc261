#include "core/fold/hot_neurons.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/fold/linear_solve.h"

namespace pleat {
namespace {

constexpr double kRidge = 1e-3;

// The activations of all neurons [rows, h].
Table activations(Context& ctx, const FfnTensors& ffn, Activation activation, const Table& x) {
  Table up(x.rows, ffn.neurons());
  matmul(ctx, x.view(), packed_transposed(WeightFormat::f32, ffn.up.view()), ffn.up_bias.data(), up.view());
  if (!ffn.gated()) {
    activate(ctx, activation, up.view());
    return up;
  }
  Table gate(x.rows, ffn.neurons());
  matmul(ctx, x.view(), packed_transposed(WeightFormat::f32, ffn.gate.view()), ffn.gate_bias.data(), gate.view());
  activate_gated(ctx, activation, gate.view(), up.view());
  return up;
}

// [h] sum over rows of (act - the regression on [x, 1])^2.
std::vector<double> unexplained(Context& ctx, const Table& x, const Table& act) {
  const int64_t d = x.cols + 1, h = act.cols;
  Table extended(x.rows, d);
  for (int64_t row = 0; row < x.rows; ++row) {
    std::copy_n(x[row], x.cols, extended[row]);
    extended[row][x.cols] = 1;
  }
  std::vector<double> gram(static_cast<size_t>(d * d));
  add_second_moment(ctx, extended.view(), gram);
  const Table product = multiply(ctx, transposed(extended.view()).view(), act.view());
  const std::vector<double> target(product.data.begin(), product.data.end());
  const std::vector<double> solution = ridge_solve(gram, d, target, h, kRidge);
  Table weight(d, h);
  for (size_t i = 0; i < solution.size(); ++i) weight.data[i] = float(solution[i]);
  const Table fitted = multiply(ctx, extended.view(), weight.view());
  std::vector<double> out(static_cast<size_t>(h));
  for (int64_t row = 0; row < act.rows; ++row)
    for (int64_t n = 0; n < h; ++n) out[size_t(n)] += std::pow(double(act[row][n]) - fitted[row][n], 2);
  return out;
}

std::vector<double> energy(const Table& act) {
  std::vector<double> out(static_cast<size_t>(act.cols));
  for (int64_t row = 0; row < act.rows; ++row)
    for (int64_t n = 0; n < act.cols; ++n) out[size_t(n)] += double(act[row][n]) * act[row][n];
  return out;
}

}  // namespace

std::vector<int32_t> hot_neurons(Context& ctx, const FfnTensors& ffn, Activation activation, const Table& sample,
                                 int64_t count, bool lines, const std::vector<int32_t>& always) {
  const Table act = activations(ctx, ffn, activation, sample);
  std::vector<double> importance = lines ? unexplained(ctx, sample, act) : energy(act);
  for (int64_t n = 0; n < ffn.neurons(); ++n) {
    double norm2 = 0;
    for (int64_t i = 0; i < ffn.hidden(); ++i) norm2 += double(ffn.down[n][i]) * ffn.down[n][i];
    importance[size_t(n)] *= norm2;
  }
  for (const int32_t n : always) importance[size_t(n)] = INFINITY;
  std::vector<int32_t> order(importance.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return importance[size_t(a)] > importance[size_t(b)]; });
  order.resize(size_t(std::min<int64_t>(count, ffn.neurons())));
  std::sort(order.begin(), order.end());
  return order;
}

}  // namespace pleat
