#include "core/fold/planes.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/fold/gptq_columns.h"
#include "core/fold/plane_fit.h"
#include "kernels/check.h"

namespace pleat {
namespace {

constexpr float kStandsOut = 3.5f;  // times a column's root mean square: not what e is made for

int64_t up(int64_t n, int64_t size) { return (n + size - 1) / size; }

// Blocks by the sum of their columns' second moments; one that is not whole last.
std::vector<int32_t> order_of_blocks(const std::vector<double>& second_moment, int64_t d) {
  std::vector<int32_t> order = natural_order(d);
  if (second_moment.empty()) return order;
  std::vector<double> sums(size_t(d / kPlaneBlock));
  for (int64_t i = 0; i < int64_t(sums.size()) * kPlaneBlock; ++i)
    sums[size_t(i / kPlaneBlock)] += second_moment[size_t(i * (d + 1))];
  std::vector<int32_t> blocks = natural_order(int64_t(sums.size()));
  std::stable_sort(blocks.begin(), blocks.end(),
                   [&](int32_t a, int32_t b) { return sums[size_t(a)] > sums[size_t(b)]; });
  for (size_t i = 0; i < blocks.size() * kPlaneBlock; ++i)
    order[i] = int32_t(blocks[i / kPlaneBlock] * kPlaneBlock + int64_t(i % kPlaneBlock));
  return order;
}

class PlaneRounding : public ColumnRounding {
 public:
  PlaneRounding(PlaneRows& out, const std::vector<int32_t>& order)
      : out_(out),
        order_(order),
        place_(order.size()),
        opens_group_(order.size()),
        opens_block_(order.size()),
        protected_place_(order.size(), -1),
        fits_(out.scales.size() / size_t(out.planes)) {
    std::vector<uint8_t> groups(order.size()), blocks(order.size());
    for (size_t k = 0; k < order.size(); ++k) {
      place_[size_t(order[k])] = int64_t(k);
      opens_group_[k] = !std::exchange(groups[size_t(order[k] / kGroup)], 1);
      opens_block_[k] = out.kind == PlaneScales::column || !std::exchange(blocks[size_t(order[k] / kPlaneBlock)], 1);
    }
    for (size_t i = 0; i < out.protected_inputs.size(); ++i)
      protected_place_[size_t(out.protected_inputs[i])] = int32_t(i);
  }

  // Rows [begin, end) are a group of 64 (or what is left).
  void round(int64_t begin, int64_t end, int64_t at, const Table& rest, const float* error_weight,
             float* stored) override {
    const int64_t column = order_[size_t(at)];
    if (opens_group_[size_t(at)]) set_exponent(begin, end, column / kGroup, rest);
    const float unit = std::ldexp(1.0f, exponent(begin, column));
    const int64_t together = out_.kind == PlaneScales::column ? kPlaneOutputs : kPlaneBlock;
    for (int64_t first = begin; first < end; first += together) {
      const int64_t last = std::min(first + together, end);
      if (opens_block_[size_t(at)]) set_scales(first, last, at, unit, rest, error_weight);
      const PlaneFit& fit = fit_of(first, column);
      for (int64_t row = first; row < last; ++row) stored[row - begin] = round(row, column, rest[row][at], unit, fit);
    }
  }

 private:
  int8_t& exponent(int64_t row, int64_t column) {
    return out_.exponents[size_t(row / kPlaneOutputs * out_.groups() + column / kGroup)];
  }
  PlaneFit& fit_of(int64_t row, int64_t column) {
    return fits_[size_t(out_.scales_of(row, column) - out_.scales.data()) / size_t(out_.planes)];
  }

  float round(int64_t row, int64_t column, float value, float unit, const PlaneFit& fit) {
    if (const int32_t kept = protected_place_[size_t(column)]; kept >= 0) {
      const bf16 rounded = to_bf16(value);
      out_.protected_weights[size_t(row) * out_.protected_inputs.size() + size_t(kept)] = rounded;
      return to_f32(rounded);
    }
    const int code = fit.nearest(value / unit);
    if (code != 0) out_.set_code(row, column, code);
    return unit * float(fit.level(code));
  }

  void set_exponent(int64_t begin, int64_t end, int64_t group, const Table& rest) {
    float highest = 0;
    for (int64_t column = group * kGroup; column < std::min(group * kGroup + kGroup, out_.inputs); ++column) {
      if (protected_place_[size_t(column)] >= 0) continue;
      float largest = 0, squares = 0;
      for (int64_t row = begin; row < end; ++row) {
        const float value = rest[row][place_[size_t(column)]];
        largest = std::max(largest, std::fabs(value)), squares += value * value;
      }
      highest = std::max(highest, std::min(largest, kStandsOut * std::sqrt(squares / float(end - begin))));
    }
    const float power = highest > 0 ? std::ceil(std::log2(highest / float(kPlaneLimit))) : 0.0f;
    exponent(begin, group * kGroup) = int8_t(std::clamp(power, -120.0f, 100.0f));
  }

  // The scales of rows [first, last) and the column in place `at`, or the block it opens.
  void set_scales(int64_t first, int64_t last, int64_t at, float unit, const Table& rest, const float* error_weight) {
    const int64_t column = order_[size_t(at)];
    const int64_t width =
        out_.kind == PlaneScales::column ? 1 : std::min(kPlaneBlock, out_.inputs - column);  // in their own order
    float x[64], weight[64];
    int64_t n = 0;
    for (int64_t k = 0; k < width; ++k) {
      if (protected_place_[size_t(column + k)] >= 0) continue;
      for (int64_t row = first; row < last; ++row, ++n)
        x[n] = rest[row][at + k] / unit, weight[n] = error_weight[at + k] / error_weight[at];
    }
    PlaneFit& fit = fit_of(first, column);
    fit = fit_planes(x, weight, n, out_.planes);
    uint8_t* const scales = out_.scales_of(first, column);
    for (int p = 0; p < out_.planes; ++p) scales[p] = plane_scale_byte(fit.scales[size_t(p)]);
  }

  PlaneRows& out_;
  const std::vector<int32_t>& order_;
  std::vector<int64_t> place_;                      // of a column in the order
  std::vector<uint8_t> opens_group_, opens_block_;  // whether the column in a place is the first of its group, block
  std::vector<int32_t> protected_place_;            // of a column among the protected ones
  std::vector<PlaneFit> fits_;                      // in the order of out_.scales
};

}  // namespace

PlaneRows::PlaneRows(int planes_, PlaneScales kind_, int64_t rows_, int64_t inputs_)
    : planes(planes_), kind(kind_), rows(rows_), inputs(inputs_) {
  codes.resize(size_t(rows * code_bytes()));
  scales.resize(size_t(scale_rows() * scale_bytes()), plane_scale_byte(0));
  exponents.resize(size_t(up(rows, kPlaneOutputs) * groups()));
}

int64_t PlaneRows::scale_rows() const { return up(rows, kind == PlaneScales::column ? kPlaneOutputs : kPlaneBlock); }

int64_t PlaneRows::scale_bytes() const {
  return (kind == PlaneScales::column ? inputs : up(inputs, kPlaneBlock)) * planes;
}

int64_t PlaneRows::scale_place(int64_t row, int64_t input) const {
  return kind == PlaneScales::column ? row / kPlaneOutputs * scale_bytes() + input * planes
                                     : row / kPlaneBlock * scale_bytes() + input / kPlaneBlock * planes;
}

int PlaneRows::code(int64_t row, int64_t input) const {
  const uint8_t* bytes = codes.data() + row * code_bytes();
  int code = 0;
  for (int p = 0; p < planes; ++p) {
    const int64_t bit = input * planes + p;
    code |= ((bytes[bit / 8] >> (bit % 8)) & 1) << p;
  }
  return code;
}

void PlaneRows::set_code(int64_t row, int64_t input, int code) {
  uint8_t* bytes = codes.data() + row * code_bytes();
  for (int p = 0; p < planes; ++p) {
    const int64_t bit = input * planes + p;
    bytes[bit / 8] = uint8_t(bytes[bit / 8] | (((code >> p) & 1) << (bit % 8)));
  }
}

float PlaneRows::value(int64_t row, int64_t input) const {
  const auto it = std::lower_bound(protected_inputs.begin(), protected_inputs.end(), input);
  if (it != protected_inputs.end() && *it == input)
    return to_f32(protected_weights[size_t(row) * protected_inputs.size() + size_t(it - protected_inputs.begin())]);
  const uint8_t* const at = scales.data() + scale_place(row, input);
  const int signs = code(row, input);
  int sum = 0;
  for (int p = 0; p < planes; ++p) sum += signs >> p & 1 ? plane_scale_value(at[p]) : -plane_scale_value(at[p]);
  return std::ldexp(float(sum), exponents[size_t(row / kPlaneOutputs * groups() + input / kGroup)]);
}

PlanesMatrix PlaneRows::packed(int64_t begin, int64_t end) const {
  PlanesMatrix out(planes, end - begin, inputs);
  out.add(0, begin, end - begin, kind, scales.data() + scale_place(begin, 0),
          exponents.data() + begin / kPlaneOutputs * groups());
  out.pack(0, end - begin, codes.data() + begin * code_bytes());
  const int64_t count = int64_t(protected_inputs.size());
  out.protect(protected_inputs);
  out.pack_protected(0, end - begin, protected_weights.data() + begin * count, count);
  return out;
}

PlaneRows quantise_planes(Context& ctx, MatrixView<const float> w, const std::vector<double>& second_moment, int planes,
                          PlaneScales kind, std::vector<int32_t> protected_inputs) {
  PlaneRows out(planes, kind, w.rows, w.cols);
  out.protected_weights.resize(size_t(w.rows) * protected_inputs.size());
  out.protected_inputs = std::move(protected_inputs);
  const std::vector<int32_t> order =
      kind == PlaneScales::column ? order_by_activation(second_moment, w.cols) : order_of_blocks(second_moment, w.cols);
  PlaneRounding rounding(out, order);
  gptq_columns(ctx, w, second_moment, order, kPlaneOutputs, rounding);
  return out;
}

}  // namespace pleat
