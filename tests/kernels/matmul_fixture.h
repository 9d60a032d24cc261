#pragma once
// Random matrices and their products in double precision, for the tests of matmul.h and neuron_rows.h.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

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
  for (Isa isa : {Isa::portable, Isa::avx2, Isa::avx512}) {
    if (isa <= detect_isa()) all.push_back(isa);
  }
  return all;
}

// A random W [inputs, outputs] in a format, packed, and as the numbers the product has to use.
struct RandomWeights {
  WeightFormat format;
  int64_t inputs, outputs;
  std::vector<float> values;  // [inputs, outputs]
  PackedMatrix packed;

  RandomWeights(WeightFormat format_, int64_t inputs_, int64_t outputs_, std::vector<int64_t> leaf_offsets,
                uint32_t seed = 1)
      : format(format_),
        inputs(inputs_),
        outputs(outputs_),
        values(random_floats(inputs_ * outputs_, seed)),
        packed(format_, inputs_, outputs_, std::move(leaf_offsets)) {
    if (format == WeightFormat::int8) {
      pack_int8(seed);
      return;
    }
    packed.pack(0, 0, {values.data(), DType::f32, inputs, outputs, outputs, 1});
    if (format == WeightFormat::bf16) {
      for (float& value : values) value = to_f32(to_bf16(value));
    }
  }

  void pack_int8(uint32_t seed) {
    const int64_t groups = (inputs + kGroup - 1) / kGroup;
    std::vector<float> scales = random_floats(groups * outputs, seed + 1);
    for (float& scale : scales) scale = to_f32(to_bf16(scale));
    std::vector<int8_t> codes(values.size());
    for (int64_t k = 0; k < inputs; ++k) {
      for (int64_t n = 0; n < outputs; ++n) {
        float& value = values[k * outputs + n];
        codes[k * outputs + n] = int8_t(std::lround(value * 127));
        value = float(codes[k * outputs + n]) * scales[k / kGroup * outputs + n];
      }
    }
    packed.pack(0, 0, {codes.data(), DType::i8, inputs, outputs, outputs, 1});
    packed.pack_scales(0, 0, {scales.data(), DType::f32, groups, outputs, outputs, 1});
  }
};

// Output n of the inputs [begin, end) and how far an f32 sum of those terms may be from it: every term passes through
// at most one rounding for each addition after it, besides those of its own product, of a scale and of `additions`
// more.
struct Expected {
  double value = 0, tolerance = 0;
};
inline Expected expect(const RandomWeights& w, const float* x, int64_t n, int64_t begin, int64_t end, int additions) {
  double value = 0, magnitude = 0;
  for (int64_t k = begin; k < end; ++k) {
    const float activation = w.format == WeightFormat::bf16 ? to_f32(to_bf16(x[k])) : x[k];
    const double term = double(activation) * double(w.values[k * w.outputs + n]);
    value += term;
    magnitude += std::abs(term);
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
  }
  offsets.push_back(inputs);
  return offsets;
}

inline std::string name_of(WeightFormat format) {
  return format == WeightFormat::f32 ? "f32" : format == WeightFormat::bf16 ? "bf16" : "int8";
}
constexpr WeightFormat kFormats[] = {WeightFormat::f32, WeightFormat::bf16, WeightFormat::int8};

}  // namespace pleat
