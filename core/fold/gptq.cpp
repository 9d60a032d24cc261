#include "core/fold/gptq.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/fold/gptq_grid.h"
#include "core/fold/linear_solve.h"
#include "kernels/check.h"

namespace pleat {
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
  if (const auto at = std::lower_bound(protected_rows.begin(), protected_rows.end(), row);
      at != protected_rows.end() && *at == row)
    return to_f32(protected_row_weights[size_t((at - protected_rows.begin()) * inputs + input)]);
  const auto it = std::lower_bound(protected_inputs.begin(), protected_inputs.end(), input);
  if (it != protected_inputs.end() && *it == input)
    return to_f32(protected_weights[size_t(row) * protected_inputs.size() + size_t(it - protected_inputs.begin())]);
  const size_t group = size_t(row * groups() + input / kGroup);
  const float step = to_f32(scale[group]);
  return bits == 8 ? step * float(code(row, input) - 128) : to_f32(minimum[group]) + step * float(code(row, input));
}

Table LowBitRows::values() const {
  Table out(rows, inputs);
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t input = 0; input < inputs; ++input) out[row][input] = value(row, input);
  return out;
}

int64_t LowBitRows::bytes() const {
  return int64_t(codes.size() + sizeof(bf16) * (scale.size() + minimum.size() + protected_weights.size() +
                                                protected_row_weights.size()));
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

LowBitRows reordered(const LowBitRows& rows, std::span<const int32_t> order) {
  if (rows.rows == 0) return rows;
  LowBitRows out(rows.bits, int64_t(order.size()), rows.inputs);
  out.protected_inputs = rows.protected_inputs;
  out.protected_weights.resize(order.size() * rows.protected_inputs.size());
  const auto move = [&](auto& to, const auto& from, int64_t width) {
    for (size_t place = 0; place < order.size() && !from.empty(); ++place)
      std::copy_n(from.begin() + int64_t(order[place]) * width, width, to.begin() + int64_t(place) * width);
  };
  move(out.codes, rows.codes, rows.code_bytes());
  move(out.scale, rows.scale, rows.groups());
  move(out.minimum, rows.minimum, rows.groups());
  move(out.protected_weights, rows.protected_weights, int64_t(rows.protected_inputs.size()));
  for (size_t place = 0; place < order.size(); ++place) {
    const auto at = std::lower_bound(rows.protected_rows.begin(), rows.protected_rows.end(), order[place]);
    if (at == rows.protected_rows.end() || *at != order[place]) continue;
    out.protected_rows.push_back(int32_t(place));
    const auto from = rows.protected_row_weights.begin() + (at - rows.protected_rows.begin()) * rows.inputs;
    out.protected_row_weights.insert(out.protected_row_weights.end(), from, from + rows.inputs);
  }
  return out;
}

LowBitRows gptq(Context& ctx, MatrixView<const float> w, const std::vector<double>& second_moment, int bits,
                bool activation_order, std::vector<int32_t> protected_inputs) {
  const int64_t rows = w.rows, d = w.cols;
  const bool compensates = !second_moment.empty();
  const std::vector<int32_t> order = column_order(second_moment, d, activation_order);
  const Table factor = compensates ? inverse_cholesky(reordered(second_moment, order), d, kDamping) : Table();
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
