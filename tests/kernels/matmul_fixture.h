#pragma once
// Random matrices and their products in double precision, for the tests of matmul.h and neuron_rows.h.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "kernels/context.h"
#include "kernels/matmul.h"

namespace pleat {

inline std::vector<float> random_floats(int64_t n, uint32_t seed) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> values(n);
  for (float& value : values) value = uniform(generator);
  return values;
}

inline std::vector<Isa> isas() {
  std::vector<Isa> all;
  for (Isa isa : {Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512_bf16}) {
    if (isa <= detect_isa()) all.push_back(isa);
  }
  return all;
}

// A random W [inputs, outputs] in a format, packed, and as the numbers the product has to use.
struct RandomWeights {
  WeightFormat format;
  int64_t inputs, outputs;
  std::vector<float> values;         // [inputs, outputs]
  std::vector<unsigned> codes;       // low-bit: [outputs, inputs]
  std::vector<bf16> scale, minimum;  // low-bit: [outputs, groups]
  PackedMatrix packed;

  RandomWeights(WeightFormat format_, int64_t inputs_, int64_t outputs_, std::vector<int64_t> leaf_offsets,
                uint32_t seed = 1)
      : format(format_), inputs(inputs_), outputs(outputs_), values(random_floats(inputs_ * outputs_, seed)) {
    if (is_low_bit(format)) draw_codes(seed);
    packed = rows(0, std::move(leaf_offsets));
    if (format == WeightFormat::bf16) {
      for (float& value : values) value = to_f32(to_bf16(value));
    }
  }
  int64_t groups() const { return (inputs + kGroup - 1) / kGroup; }

  // The inputs from `first` on (low-bit: a multiple of kGroup) that these leaves cover.
  PackedMatrix rows(int64_t first, std::vector<int64_t> leaf_offsets) const {
    const int64_t count = leaf_offsets.back();
    PackedMatrix out(format, count, outputs, std::move(leaf_offsets));
    if (!is_low_bit(format)) {
      out.pack(0, 0, {&values[first * outputs], DType::f32, count, outputs, outputs, 1});
      return out;
    }
    const int bits = bits_of(format);
    const int64_t mine = (count + kGroup - 1) / kGroup;
    for (int64_t n = 0; n < outputs; ++n) {
      std::vector<uint8_t> bytes((count * bits + 7) / 8);
      for (int64_t bit = 0; bit < count * bits; ++bit)
        bytes[bit / 8] =
            uint8_t(bytes[bit / 8] | (codes[n * inputs + first + bit / bits] >> bit % bits & 1) << bit % 8);
      const int64_t group = n * groups() + first / kGroup;
      if (mine > 0) out.low_bit().pack(n, 1, bytes.data(), &scale[group], bits < 8 ? &minimum[group] : nullptr);
    }
    return out;
  }

  void draw_codes(uint32_t seed) {
    const int bits = bits_of(format);
    std::mt19937 generator(seed);
    for (float value : random_floats(groups() * outputs, seed + 1)) scale.push_back(to_bf16(value / float(1 << bits)));
    for (float value : random_floats(groups() * outputs, seed + 2)) minimum.push_back(to_bf16(value));
    for (int64_t n = 0; n < outputs; ++n)
      for (int64_t k = 0; k < inputs; ++k) {
        codes.push_back(generator() & ((1u << bits) - 1));
        const int64_t group = n * groups() + k / kGroup;
        values[k * outputs + n] = bits == 8 ? to_f32(scale[group]) * float(int(codes.back()) - 128)
                                            : to_f32(minimum[group]) + to_f32(scale[group]) * float(codes.back());
      }
  }
};

// What the product makes of x [rows, inputs]: see matmul.h and low_bit.h.
inline std::vector<double> activations_of(const RandomWeights& w, std::vector<float> x) {
  if (w.format == WeightFormat::bf16)
    for (float& value : x) value = to_f32(to_bf16(value));
  std::vector<double> activations(x.begin(), x.end());
  if (!is_low_bit(w.format)) return activations;
  for (size_t row = 0; row < x.size(); row += size_t(w.inputs))
    for (int64_t first = 0; first < w.inputs; first += kGroup) {
      const size_t begin = row + size_t(first), end = row + size_t(std::min(first + kGroup, w.inputs));
      float highest = 0;
      for (size_t i = begin; i < end; ++i) highest = std::max(highest, std::fabs(x[i]));
      const float s = highest / 127;
      for (size_t i = begin; i < end; ++i) activations[i] = double(s) * std::nearbyint(x[i] / s);
    }
  return activations;
}

// Output n of a row's activations, of the inputs [begin, end), and how far an f32 sum of those terms may be from it:
// every term passes through at most one rounding for each addition after it, besides those of its own product, of a
// scale and of `additions` more. Low-bit: minimum and code are summed apart.
struct Expected {
  double value = 0, tolerance = 0;
};
inline Expected expect(const RandomWeights& w, const double* activations, int64_t n, int64_t begin, int64_t end,
                       int additions) {
  double value = 0, magnitude = 0;
  for (int64_t k = begin; k < end; ++k) {
    const double term = activations[k] * double(w.values[k * w.outputs + n]);
    value += term;
    magnitude += std::abs(term);
    if (is_low_bit(w.format)) magnitude += 2 * std::abs(activations[k]);
  }
  return {value, (magnitude + 1) * double(end - begin + 3 + additions) * 0x1p-23};
}

inline std::vector<float> matmul_of(Context& ctx, const std::vector<float>& x, int64_t rows, const PackedMatrix& w,
                                    const float* bias = nullptr) {
  std::vector<float> y(rows * w.outputs(), NAN);
  matmul(ctx, {x.data(), rows, w.inputs()}, w, bias, {y.data(), rows, w.outputs()});
  return y;
}

inline std::vector<float> nodes_of(Context& ctx, const std::vector<float>& x, int64_t rows, const PackedMatrix& w,
                                   int first_leaf, const std::vector<TreeNode>& nodes) {
  std::vector<float> out(nodes.size() * rows * w.outputs(), NAN);
  matmul_nodes(ctx, {x.data(), rows, w.inputs()}, w, first_leaf, nodes, out.data());
  return out;
}

// `leaves` leaves of uneven sizes, some empty. unit: what offsets are multiples of (the last apart).
inline std::vector<int64_t> uneven_leaves(int64_t inputs, int leaves, int64_t unit) {
  std::vector<int64_t> offsets{0};
  for (int leaf = 1; leaf < leaves; ++leaf) {
    const int64_t even_share = inputs * leaf / leaves + (leaf * 7 % 5 - 2);
    offsets.push_back(std::max(offsets.back(), std::min(even_share / unit * unit, inputs)));
    if (leaf % 6 == 0) offsets.back() = offsets[offsets.size() - 2];
    if (leaf == leaves - 1) offsets.back() = inputs;  // the last leaf is empty too
  }
  offsets.push_back(inputs);
  return offsets;
}

constexpr WeightFormat kFormats[] = {WeightFormat::f32,  WeightFormat::bf16, WeightFormat::int8, WeightFormat::int6,
                                     WeightFormat::int5, WeightFormat::int4, WeightFormat::int3, WeightFormat::int2};

}  // namespace pleat
