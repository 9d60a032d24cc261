#include "core/fold/gptq.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/fold/linear_solve.h"
#include "kernels/check.h"

namespace pleat {
namespace {

constexpr double kDamping = 0.01;  // of the mean diagonal

struct GroupGrid {
  float scale = 0, minimum = 0;
  int least = 0, largest = 1;  // codes
  int zero = 0;                // of the code that means `minimum`

  int code(float w) const {
    if (scale == 0) return zero;
    return int(std::clamp(std::nearbyint((w - minimum) / scale) + float(zero), float(least), float(largest)));
  }
  float value(int code) const { return minimum + scale * float(code - zero); }
  double error(const float* w, int64_t n) const {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += double(value(code(w[i])) - w[i]) * (value(code(w[i])) - w[i]);
    return sum;
  }
};

float rounded(float x) { return to_f32(to_bf16(x)); }

GroupGrid binary_grid(const float* w, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::fabs(w[i]);
  const float half = rounded(float(sum / double(n)));
  return {2 * half, -half, 0, 1, 0};
}

GroupGrid clipped_grid(const float* w, int64_t n, int bits) {
  const auto [low, high] = std::minmax_element(w, w + n);
  const float middle = (*low + *high) / 2, half = (*high - *low) / 2;
  const int largest = (1 << bits) - 1;
  GroupGrid best;
  double best_error = INFINITY;
  for (float clip : {1.0f, 0.9f, 0.8f, 0.7f, 0.6f}) {
    const GroupGrid grid{rounded(2 * half * clip / float(largest)), rounded(middle - half * clip), 0, largest, 0};
    const double error = grid.error(w, n);
    if (error < best_error) best = grid, best_error = error;
  }
  return best;
}

GroupGrid symmetric_grid(const float* w, int64_t n) {
  float largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::fabs(w[i]));
  return {rounded(largest / 127), 0, 1, 255, 128};
}

GroupGrid grid_of(const float* w, int64_t n, int bits) {
  if (bits == 1) return binary_grid(w, n);
  return bits == 8 ? symmetric_grid(w, n) : clipped_grid(w, n, bits);
}

// The order in which GPTQ takes the columns.
std::vector<int32_t> column_order(const std::vector<double>& second_moment, int64_t d, bool by_activation) {
  std::vector<int32_t> order(static_cast<size_t>(d));
  std::iota(order.begin(), order.end(), 0);
  if (by_activation && !second_moment.empty())
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return second_moment[size_t(a * (d + 1))] > second_moment[size_t(b * (d + 1))];
    });
  return order;
}

std::vector<double> reordered(const std::vector<double>& square, int64_t d, const std::vector<int32_t>& order) {
  std::vector<double> out(square.size());
  for (int64_t i = 0; i < d; ++i)
    for (int64_t j = 0; j < d; ++j) out[size_t(i * d + j)] = square[size_t(order[size_t(i)] * d + order[size_t(j)])];
  return out;
}

}  // namespace

LowBitRows::LowBitRows(int bits_, int64_t rows_, int64_t inputs_) : bits(bits_), rows(rows_), inputs(inputs_) {
  codes.resize(size_t(rows * code_bytes()));
  scale.resize(size_t(rows * groups()));
  if (bits < 8) minimum.resize(scale.size());
}

int LowBitRows::code(int64_t row, int64_t input) const {
  const uint8_t* bytes = codes.data() + row * code_bytes();
  int code = 0;
  for (int b = 0; b < bits; ++b) {
    const int64_t bit = input * bits + b;
    code |= ((bytes[bit / 8] >> (bit % 8)) & 1) << b;
  }
  return code;
}

void LowBitRows::set_code(int64_t row, int64_t input, int code) {
  uint8_t* bytes = codes.data() + row * code_bytes();
  for (int b = 0; b < bits; ++b) {
    const int64_t bit = input * bits + b;
    bytes[bit / 8] = uint8_t(bytes[bit / 8] | (((code >> b) & 1) << (bit % 8)));
  }
}

float LowBitRows::value(int64_t row, int64_t input) const {
  const auto it = std::lower_bound(protected_inputs.begin(), protected_inputs.end(), input);
  if (it != protected_inputs.end() && *it == input)
    return to_f32(protected_weights[size_t(row) * protected_inputs.size() + size_t(it - protected_inputs.begin())]);
  const size_t group = size_t(row * groups() + input / kGroup);
  const float step = to_f32(scale[group]);
  return bits == 8 ? step * float(code(row, input) - 128) : to_f32(minimum[group]) + step * float(code(row, input));
}

LowBitMatrix LowBitRows::packed(int64_t begin, int64_t end) const {
  LowBitMatrix out(bits, end - begin, inputs);
  out.pack(0, end - begin, codes.data() + begin * code_bytes(), scale.data() + begin * groups(),
           bits == 8 ? nullptr : minimum.data() + begin * groups());
  const int64_t count = int64_t(protected_inputs.size());
  out.protect(protected_inputs);
  out.pack_protected(0, end - begin, protected_weights.data() + begin * count, count);
  return out;
}

LowBitRows gptq(Context& ctx, MatrixView<const float> w, const std::vector<double>& second_moment, int bits,
                bool activation_order, std::vector<int32_t> protected_inputs) {
  const int64_t rows = w.rows, d = w.cols;
  const bool compensates = !second_moment.empty();
  const std::vector<int32_t> order = column_order(second_moment, d, activation_order);
  const Table factor = compensates ? inverse_cholesky(reordered(second_moment, d, order), d, kDamping) : Table();
  LowBitRows out(bits, rows, d);
  const size_t kept = protected_inputs.size();
  std::vector<int32_t> protected_place(static_cast<size_t>(d), -1);  // of a column among the protected ones
  for (size_t i = 0; i < kept; ++i) protected_place[size_t(protected_inputs[i])] = int32_t(i);
  out.protected_inputs = std::move(protected_inputs);
  out.protected_weights.resize(size_t(rows) * kept);
  Table rest(rows, d);  // in this order, with the errors so far compensated
  std::vector<GroupGrid> grids(size_t(rows * out.groups()));
  std::vector<int64_t> place(static_cast<size_t>(d));  // of a column in the order
  for (int64_t k = 0; k < d; ++k) place[size_t(order[size_t(k)])] = k;
  // A group's grid is made when its first column's turn comes.
  const auto set_grid = [&](int64_t row, int64_t group) {
    float values[kGroup];
    int64_t width = 0;
    for (int64_t i = group * kGroup; i < std::min(group * kGroup + kGroup, d); ++i)
      if (protected_place[size_t(i)] < 0) values[width++] = rest[row][place[size_t(i)]];
    const size_t at = size_t(row * out.groups() + group);
    if (width > 0) grids[at] = grid_of(values, width, bits);
    out.scale[at] = to_bf16(grids[at].scale);
    if (bits < 8) out.minimum[at] = to_bf16(grids[at].minimum);
  };
  std::vector<uint8_t> opens(static_cast<size_t>(d));  // whether the column is the first of its group
  std::vector<uint8_t> seen(static_cast<size_t>(out.groups()));
  for (int64_t k = 0; k < d; ++k) opens[size_t(k)] = !std::exchange(seen[size_t(order[size_t(k)] / kGroup)], 1);
  ctx.team().each(rows, [&](int, int64_t row) {
    for (int64_t k = 0; k < d; ++k) rest[row][k] = w[row][order[size_t(k)]];
  });

  for (int64_t begin = 0; begin < d; begin += kGroup) {
    const int64_t end = std::min(begin + kGroup, d), width = end - begin;
    Table errors(rows, width);
    ctx.team().split(rows, [&](int, int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        float* values = rest[row] + begin;
        for (int64_t j = 0; j < width; ++j) {
          const int64_t column = order[size_t(begin + j)];
          if (opens[size_t(begin + j)]) set_grid(row, column / kGroup);
          const GroupGrid& grid = grids[size_t(row * out.groups() + column / kGroup)];
          float stored;
          if (const int32_t at = protected_place[size_t(column)]; at >= 0) {
            const bf16 rounded_weight = to_bf16(values[j]);
            out.protected_weights[size_t(row) * kept + size_t(at)] = rounded_weight;
            stored = to_f32(rounded_weight);
          } else {
            const int code = grid.code(values[j]);
            if (code != 0) out.set_code(row, column, code);
            stored = grid.value(code);
          }
          if (!compensates) continue;
          const float* u = factor[begin + j] + begin;
          const float error = (values[j] - stored) / u[j];
          errors[row][j] = error;
          for (int64_t k = j; k < width; ++k) values[k] -= error * u[k];
        }
      }
    });
    if (!compensates || end == d) continue;
    const Table change = multiply(ctx, errors.view(), {factor[begin] + end, width, d - end, d});
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t k = end; k < d; ++k) rest[row][k] -= change[row][k - end];
    }
  }
  return out;
}

}  // namespace pleat
