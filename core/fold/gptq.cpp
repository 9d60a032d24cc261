#include "core/fold/gptq.h"

#include <algorithm>
#include <cmath>

#include "core/fold/linear_solve.h"
#include "kernels/check.h"

namespace pleat {
namespace {

constexpr double kDamping = 0.01;  // of the mean diagonal

struct GroupGrid {
  float scale = 0, minimum = 0;
  int largest = 1;

  int code(float w) const {
    if (scale == 0) return 0;
    return int(std::clamp(std::nearbyint((w - minimum) / scale), 0.0f, float(largest)));
  }
  float value(int code) const { return minimum + scale * float(code); }
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
  return {2 * half, -half, 1};
}

GroupGrid clipped_grid(const float* w, int64_t n, int bits) {
  const auto [low, high] = std::minmax_element(w, w + n);
  const float middle = (*low + *high) / 2, half = (*high - *low) / 2;
  const int largest = (1 << bits) - 1;
  GroupGrid best;
  double best_error = INFINITY;
  for (float clip : {1.0f, 0.9f, 0.8f, 0.7f, 0.6f}) {
    const GroupGrid grid{rounded(2 * half * clip / float(largest)), rounded(middle - half * clip), largest};
    const double error = grid.error(w, n);
    if (error < best_error) best = grid, best_error = error;
  }
  return best;
}

}  // namespace

LowBitRows::LowBitRows(int bits_, int64_t rows_, int64_t inputs_) : bits(bits_), rows(rows_), inputs(inputs_) {
  codes.resize(size_t(rows * code_bytes()));
  scale.resize(size_t(rows * groups()));
  minimum.resize(size_t(rows * groups()));
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
  const int64_t group = row * groups() + input / kGroup;
  return to_f32(minimum[size_t(group)]) + to_f32(scale[size_t(group)]) * float(code(row, input));
}

LowBitMatrix LowBitRows::packed(int64_t begin, int64_t end) const {
  LowBitMatrix out(bits, end - begin, inputs);
  out.pack(0, end - begin, codes.data() + begin * code_bytes(), scale.data() + begin * groups(),
           minimum.data() + begin * groups());
  return out;
}

LowBitRows gptq(Context& ctx, MatrixView<const float> w, const std::vector<double>& second_moment, int bits) {
  PLEAT_ASSERT(bits >= 1 && bits <= 3);
  const int64_t rows = w.rows, d = w.cols;
  const Table factor = second_moment.empty() ? Table() : inverse_cholesky(second_moment, d, kDamping);
  LowBitRows out(bits, rows, d);
  Table rest(rows, d);  // weights with the errors so far compensated
  for (int64_t row = 0; row < rows; ++row) std::copy_n(w[row], d, rest[row]);

  for (int64_t begin = 0; begin < d; begin += kGroup) {
    const int64_t end = std::min(begin + kGroup, d), width = end - begin;
    Table errors(rows, width);
    ctx.team().split(rows, [&](int, int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        float* values = rest[row] + begin;
        const GroupGrid grid = bits == 1 ? binary_grid(values, width) : clipped_grid(values, width, bits);
        out.scale[size_t(row * out.groups() + begin / kGroup)] = to_bf16(grid.scale);
        out.minimum[size_t(row * out.groups() + begin / kGroup)] = to_bf16(grid.minimum);
        for (int64_t j = 0; j < width; ++j) {
          const int code = grid.code(values[j]);
          if (code != 0) out.set_code(row, begin + j, code);
          if (second_moment.empty()) continue;
          const float* u = factor[begin + j] + begin;
          const float error = (values[j] - grid.value(code)) / u[j];
          errors[row][j] = error;
          for (int64_t k = j; k < width; ++k) values[k] -= error * u[k];
        }
      }
    });
    if (second_moment.empty() || end == d) continue;
    const Table change = multiply(ctx, errors.view(), {factor[begin] + end, width, d - end, d});
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t k = end; k < d; ++k) rest[row][k] -= change[row][k - end];
    }
  }
  return out;
}

}  // namespace pleat
