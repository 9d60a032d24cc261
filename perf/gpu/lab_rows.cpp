// What goes over a step's rows once: norms, activations, embeddings, the head's candidates, sums of leaves.
#include <algorithm>
#include <cmath>

#include "kernels/cuda/activation.h"
#include "kernels/cuda/candidates.h"
#include "kernels/cuda/embedding.h"
#include "kernels/cuda/gathered_sum.h"
#include "kernels/cuda/leaves.h"
#include "kernels/cuda/norm.h"
#include "lab_matrix.h"

namespace pleat::lab {
namespace {

std::string compare_all(const std::vector<float>& got, const std::vector<double>& expected, double tolerance) {
  for (size_t i = 0; i < expected.size(); ++i)
    if (!(std::fabs(got[i] - expected[i]) <= tolerance * std::max(1.0, std::fabs(expected[i]))))
      return concat("element ", i, " is ", got[i], ", expected ", expected[i]);
  return "";
}

// x [rows, weight.size()], row by row.
std::vector<double> normed(std::vector<double> x, const std::vector<float>& weight, bool centred) {
  const size_t d = weight.size();
  for (size_t row = 0; row < x.size(); row += d) {
    double mean = 0, squares = 0;
    for (size_t i = row; i < row + d && centred; ++i) mean += x[i] / double(d);
    for (size_t i = row; i < row + d; ++i) squares += std::pow(x[i] - mean, 2) / double(d);
    for (size_t i = row; i < row + d; ++i) x[i] = (x[i] - mean) / std::sqrt(squares + 1e-5) * weight[i - row];
  }
  return x;
}

// The end of a sub-layer, whose output is added as it is or normed first (Gemma 2).
void norm(Lab& lab, int rows, int d, bool normed_first) {
  const std::vector<float> x = random_values(size_t(rows * d), 1), before = random_values(x.size(), 2),
                           bias = random_values(size_t(d), 3), weight_of_x = random_values(size_t(d), 4),
                           weight = random_values(size_t(d), 5);
  const cuda::DeviceArray<float> device_x(x, lab.stream()), residual(before, lab.stream()),
      device_bias(bias, lab.stream()), device_weight_of_x(weight_of_x, lab.stream()),
      device_weight(weight, lab.stream()), y(x.size());
  lab.measure({.kernel = normed_first ? "add_normed" : "add_norm",
               .shape = concat("[", rows, ", ", d, "]"),
               .bytes = 4.0 * d * (4 * rows + (normed_first ? 3 : 2)),
               .check =
                   [&] {
                     std::vector<double> sum;
                     for (size_t i = 0; i < x.size(); ++i) sum.push_back(double(x[i]) + bias[i % size_t(d)]);
                     if (normed_first) sum = normed(std::move(sum), weight_of_x, false);
                     for (size_t i = 0; i < x.size(); ++i) sum[i] += before[i];
                     const std::string wrong = compare_all(residual.to_host(lab.stream()), sum, 1e-5);
                     if (!wrong.empty()) return concat("of the residual ", wrong);
                     return compare_all(y.to_host(lab.stream()), normed(sum, weight, true), 1e-5);
                   },
               .call =
                   [&](cuda::StreamHandle stream, int) {
                     const cuda::Norm next{device_weight.data()};
                     if (normed_first)
                       cuda::add_normed(stream, rows, d, device_x.data(), device_bias.data(),
                                        {device_weight_of_x.data(), nullptr, 1e-5f, false}, next, residual.data(),
                                        y.data());
                     else
                       cuda::add_norm(stream, rows, d, {device_x.data(), 1, device_bias.data()}, next, residual.data(),
                                      y.data());
                   }});
}

// x [rows, columns] changes, element by element, by itself and another matrix.   arrays: that go through memory
template <class Expected, class Call>
void element_wise(Lab& lab, const char* kernel, int rows, int columns, int arrays, Expected expected_of, Call call) {
  const std::vector<float> x = random_values(size_t(rows * columns), 1, 5), other = random_values(x.size(), 2, 5);
  const cuda::DeviceArray<float> device_x(x, lab.stream()), device_other(other, lab.stream());
  lab.measure({.kernel = kernel,
               .shape = concat("[", rows, ", ", columns, "]"),
               .bytes = 4.0 * arrays * double(x.size()),
               .check =
                   [&] {
                     std::vector<double> expected;
                     for (size_t i = 0; i < x.size(); ++i) expected.push_back(expected_of(double(x[i]), other[i]));
                     return compare_all(device_x.to_host(lab.stream()), expected, 1e-5);
                   },
               .call =
                   [&](cuda::StreamHandle stream, int) {
                     call(stream, MatrixView<float>(device_x.data(), rows, columns),
                          MatrixView<const float>(device_other.data(), rows, columns));
                   }});
}

void activations(Lab& lab, int rows, int neurons) {
  element_wise(
      lab, "activate", rows, neurons, 2, [](double x, double) { return x / 2 * std::erfc(-x / std::sqrt(2.0)); },
      [](cuda::StreamHandle stream, MatrixView<float> x, auto) { cuda::activate(stream, Activation::gelu, x); });
  element_wise(
      lab, "activate_gated", rows, neurons, 3, [](double u, double g) { return g / (1 + std::exp(-g)) * u; },
      [](cuda::StreamHandle stream, MatrixView<float> up, MatrixView<const float> gate) {
        cuda::activate_gated(stream, Activation::silu, gate, up);
      });
}

void cap(Lab& lab, int rows, int vocab) {
  constexpr float kCap = 3;  // of numbers to 5
  element_wise(
      lab, "soft_cap", rows, vocab, 2, [](double x, double) { return kCap * std::tanh(x / kCap); },
      [](cuda::StreamHandle stream, MatrixView<float> x, auto) { cuda::soft_cap(stream, kCap, x); });
}

void embedding(Lab& lab, int rows, int vocab, int d) {
  const Matrix table(lab, WeightFormat::bf16, vocab, d, 1);
  std::vector<int32_t> tokens;
  for (int row = 0; row < rows; ++row) tokens.push_back(int32_t(int64_t(row + 1) * 7919 % vocab));
  const cuda::DeviceArray<int32_t> device_tokens(tokens, lab.stream());
  const cuda::DeviceArray<float> out(size_t(rows * d));
  lab.measure({.kernel = "embed",
               .shape = concat(rows, " of [", vocab, ", ", d, "]"),
               .bytes = 6.0 * rows * d,
               .check =
                   [&] {
                     const std::vector<float> last = table.row(tokens.back());
                     const std::vector<float> got = out.to_host(lab.stream());
                     return std::equal(last.begin(), last.end(), got.end() - d) ? "" : "the last row is another";
                   },
               .call =
                   [&](cuda::StreamHandle stream, int call) {
                     cuda::embed(stream, rows, d, device_tokens.data(), {table.on_device(call)}, nullptr, {},
                                 out.data());
                   }});
}

void candidates(Lab& lab, int rows, int vocab, int k) {
  const std::vector<float> logits = random_values(size_t(rows * vocab), 1, 10);
  const cuda::DeviceArray<float> device_logits(logits, lab.stream());
  const cuda::DeviceArray<cuda::Candidate> best(size_t(rows * k));
  const cuda::DeviceArray<cuda::LogitSum> sums(static_cast<size_t>(rows));
  cuda::CandidateFinder finder(rows, 0, vocab, 0);
  lab.measure({.kernel = "CandidateFinder::find",
               .shape = concat("the best ", k, " of [", rows, ", ", vocab, "]"),
               .bytes = 4.0 * double(logits.size()),
               .check =
                   [&] {
                     const std::vector<cuda::Candidate> got = best.to_host(lab.stream());
                     for (int row = 0; row < rows; ++row) {
                       const auto begin = logits.begin() + int64_t(row) * vocab;
                       const auto highest = std::max_element(begin, begin + vocab);
                       if (got[size_t(row * k)] != cuda::Candidate{*highest, int32_t(highest - begin)})
                         return concat("row ", row, "'s best is ", got[size_t(row * k)].token);
                     }
                     return std::string();
                   },
               .call = [&](cuda::StreamHandle stream,
                           int) { finder.find(stream, rows, k, device_logits.data(), best.data(), sums.data()); }});
}

void leaf_sums(Lab& lab, int rows, int d, int leaf_count) {
  const std::vector<float> values = random_values(size_t(leaf_count) * size_t(rows * d), 1);
  std::vector<int32_t> offsets;
  for (int leaf = 0; leaf <= leaf_count; ++leaf) offsets.push_back(leaf);
  const cuda::DeviceLeaves leaves(offsets, std::vector<TreeNode>{{0, leaf_count}}, 0, lab.stream());
  const cuda::DeviceArray<float> parts(values, lab.stream()), node(size_t(rows * d));
  lab.measure(
      {.kernel = "sum_leaves",
       .shape = concat(leaf_count, " of [", rows, ", ", d, "]"),
       .bytes = 4.0 * double(values.size() + node.size()),
       .check =
           [&] {
             std::vector<double> expected(node.size());
             for (size_t i = 0; i < values.size(); ++i) expected[i % expected.size()] += values[i];
             return compare_all(node.to_host(lab.stream()), expected, 1e-5);
           },
       .call = [&](cuda::StreamHandle stream,
                   int) { cuda::sum_leaves(stream, leaves.view(), nullptr, parts.data(), rows * d, node.data()); }});
}

// Written to `out`, or with a bias added to it.
void gathered(Lab& lab, int ranks, int rows, int d, bool added) {
  const std::vector<float> values = random_values(size_t(ranks) * size_t(rows * d), 1),
                           before = random_values(size_t(rows * d), 2), bias = random_values(size_t(d), 3);
  const cuda::DeviceArray<float> all(values, lab.stream()), out(before, lab.stream()), device_bias(bias, lab.stream());
  lab.measure({.kernel = added ? "add_gathered" : "sum_gathered",
               .shape = concat(ranks, " of [", rows, ", ", d, "]"),
               .bytes = 4.0 * (double(values.size()) + (added ? 2 * rows + 1 : rows) * d),
               .check =
                   [&] {
                     std::vector<double> expected(out.size());
                     for (size_t i = 0; i < out.size() && added; ++i)
                       expected[i] = double(before[i]) + bias[i % size_t(d)];
                     for (size_t i = 0; i < values.size(); ++i) expected[i % expected.size()] += values[i];
                     return compare_all(out.to_host(lab.stream()), expected, 1e-5);
                   },
               .call =
                   [&](cuda::StreamHandle stream, int) {
                     const cuda::SumOrder order = cuda::SumOrder::by_rank(ranks);
                     if (added)
                       cuda::add_gathered(stream, order, rows, d, all.data(), device_bias.data(), out.data());
                     else
                       cuda::sum_gathered(stream, order, rows, d, all.data(), out.data());
                   }});
}

void heads(Lab& lab, int rows, int count, int head_size) {
  const std::vector<float> values = random_values(size_t(rows * count * head_size), 1),
                           weight = random_values(size_t(head_size), 2);
  const cuda::DeviceArray<float> device_weight(weight, lab.stream()), x(values, lab.stream());
  lab.measure(
      {.kernel = "norm_heads",
       .shape = concat("[", rows, ", ", count, " x ", head_size, "]"),
       .bytes = 8.0 * double(values.size()),
       .check =
           [&] {
             return compare_all(x.to_host(lab.stream()), normed({values.begin(), values.end()}, weight, false), 1e-5);
           },
       .call =
           [&](cuda::StreamHandle stream, int) {
             cuda::norm_heads(stream, rows, count, head_size, {device_weight.data(), nullptr, 1e-5f, false}, x.data(),
                              count * head_size);
           }});
}

}  // namespace

void rows(Lab& lab) {
  const int d = lab.size(4096, 300), vocab = lab.size(128256, 2000);
  for (const bool normed_first : {false, true})
    for (const int count : {1, 16, lab.size(512, 20)}) norm(lab, count, d, normed_first);
  for (const int count : {1, lab.size(16, 3), lab.size(512, 20)}) activations(lab, count, lab.size(14336, 100));
  for (const int count : {1, lab.size(16, 3)}) cap(lab, count, vocab);
  for (const int count : {1, 16}) embedding(lab, count, vocab, d);
  for (const int count : {1, lab.size(16, 3)})
    for (const int k : {1, 40}) candidates(lab, count, vocab, k);
  leaf_sums(lab, lab.size(16, 2), d, 32);
  for (const bool added : {false, true}) gathered(lab, 8, lab.size(16, 2), d, added);
  heads(lab, lab.size(16, 2), 32, lab.size(128, 36));
}

}  // namespace pleat::lab
