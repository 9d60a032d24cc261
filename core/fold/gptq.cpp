#include "core/fold/gptq.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/fold/gptq_columns.h"
#include "kernels/check.h"
#include "kernels/planes.h"

namespace pleat {
namespace {

// Codes by row and group of columns.
class LowBitRounding : public ColumnRounding {
 public:
  LowBitRounding(LowBitRows& out, const std::vector<int32_t>& order)
      : out_(out),
        order_(order),
        grids_(out.scale.size()),
        place_(order.size()),
        opens_(order.size()),
        protected_place_(order.size(), -1) {
    std::vector<uint8_t> seen(static_cast<size_t>(out.groups()));
    for (size_t k = 0; k < order.size(); ++k) {
      place_[size_t(order[k])] = int64_t(k);
      opens_[k] = !std::exchange(seen[size_t(order[k] / kGroup)], 1);
    }
    for (size_t i = 0; i < out.protected_inputs.size(); ++i)
      protected_place_[size_t(out.protected_inputs[i])] = int32_t(i);
  }

  void round(int64_t begin, int64_t end, int64_t at, const Table& rest, const float*, float* stored) override {
    for (int64_t row = begin; row < end; ++row) stored[row - begin] = round(row, at, rest);
  }

 private:
  float round(int64_t row, int64_t at, const Table& rest) {
    const int64_t column = order_[size_t(at)];
    if (opens_[size_t(at)]) set_grid(row, column / kGroup, rest);
    const float value = rest[row][at];
    if (const int32_t kept = protected_place_[size_t(column)]; kept >= 0) {
      const bf16 rounded_weight = to_bf16(value);
      out_.protected_weights[size_t(row) * out_.protected_inputs.size() + size_t(kept)] = rounded_weight;
      return to_f32(rounded_weight);
    }
    const GroupGrid& grid = grids_[size_t(row * out_.groups() + column / kGroup)];
    const int code = grid.code(value);
    if (code != 0) out_.set_code(row, column, code);
    return grid.value(code);
  }

  // A group's grid is made when its first column's turn comes.
  void set_grid(int64_t row, int64_t group, const Table& rest) {
    float values[kGroup];
    int64_t width = 0;
    for (int64_t i = group * kGroup; i < std::min(group * kGroup + kGroup, out_.inputs); ++i)
      if (protected_place_[size_t(i)] < 0) values[width++] = rest[row][place_[size_t(i)]];
    const size_t at = size_t(row * out_.groups() + group);
    if (width > 0) grids_[at] = out_.new_grid(values, width);
    out_.set_grid(at, grids_[at]);
  }

  LowBitRows& out_;
  const std::vector<int32_t>& order_;
  std::vector<GroupGrid> grids_;          // [rows, groups]
  std::vector<int64_t> place_;            // of a column in the order
  std::vector<uint8_t> opens_;            // whether the column in a place is the first of its group
  std::vector<int32_t> protected_place_;  // of a column among the protected ones
};

}  // namespace

LowBitRows::LowBitRows(int bits_, int64_t rows_, int64_t inputs_, bool planes)
    : bits(bits_), rows(rows_), inputs(inputs_) {
  codes.resize(size_t(rows * code_bytes()));
  scale.resize(size_t(rows * groups()));
  if (bits < 8) minimum.resize(scale.size());
  if (planes) plane_scales.resize(scale.size() * size_t(bits), plane_scale_byte(0));
}

GroupGrid LowBitRows::new_grid(const float* values, int64_t n) const {
  return plane_scales.empty() ? grid_of(values, n, bits) : plane_grid(values, n, bits);
}

void LowBitRows::set_grid(size_t group, const GroupGrid& grid) {
  scale[group] = to_bf16(grid.scale);
  if (bits < 8) minimum[group] = to_bf16(grid.minimum);
  for (int p = 0; grid.planes && p < bits; ++p)
    plane_scales[group * size_t(bits) + size_t(p)] = plane_scale_byte(grid.planes->scales[size_t(p)]);
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
  const int signs = code(row, input);
  if (bits == 8) return step * float(signs - 128);
  if (plane_scales.empty()) return to_f32(minimum[group]) + step * float(signs);
  int set = 0;
  for (int p = 0; p < bits; ++p)
    if (signs >> p & 1) set += plane_scale_value(plane_scales[group * size_t(bits) + size_t(p)]);
  return to_f32(minimum[group]) + step * float(set);
}

LowBitMatrix LowBitRows::packed(int64_t begin, int64_t end) const {
  PLEAT_ASSERT(plane_scales.empty());
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
  LowBitRows out(rows.bits, int64_t(order.size()), rows.inputs, !rows.plane_scales.empty());
  out.protected_inputs = rows.protected_inputs;
  out.protected_weights.resize(order.size() * rows.protected_inputs.size());
  const auto move = [&](auto& to, const auto& from, int64_t width) {
    for (size_t place = 0; place < order.size() && !from.empty(); ++place)
      std::copy_n(from.begin() + int64_t(order[place]) * width, width, to.begin() + int64_t(place) * width);
  };
  move(out.codes, rows.codes, rows.code_bytes());
  move(out.scale, rows.scale, rows.groups());
  move(out.minimum, rows.minimum, rows.groups());
  move(out.plane_scales, rows.plane_scales, rows.groups() * rows.bits);
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
                bool activation_order, std::vector<int32_t> protected_inputs, bool planes) {
  LowBitRows out(bits, w.rows, w.cols, planes);
  out.protected_weights.resize(size_t(w.rows) * protected_inputs.size());
  out.protected_inputs = std::move(protected_inputs);
  const std::vector<int32_t> order =
      activation_order ? order_by_activation(second_moment, w.cols) : natural_order(w.cols);
  LowBitRounding rounding(out, order);
  gptq_columns(ctx, w, second_moment, order, 1, rounding);
  return out;
}

}  // namespace pleat
