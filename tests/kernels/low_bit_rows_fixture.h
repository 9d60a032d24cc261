#pragma once
// Neuron rows of any format as numbers, and what plain loops make of them.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/neuron_rows.h"
#include "kernels/planes.h"
#include "vectors.h"

namespace pleat {

constexpr WeightFormat kLowBitFormats[] = {WeightFormat::int8, WeightFormat::int6, WeightFormat::int5,
                                           WeightFormat::int4, WeightFormat::int3, WeightFormat::int2};
// Rows of planes too.
constexpr WeightFormat kRowFormats[] = {WeightFormat::int8,    WeightFormat::int6,    WeightFormat::int5,
                                        WeightFormat::int4,    WeightFormat::int3,    WeightFormat::int2,
                                        WeightFormat::planes4, WeightFormat::planes3, WeightFormat::planes2};

struct RandomRows {
  WeightFormat format;
  int64_t neurons, width;
  std::vector<double> weights;                         // [neurons, width]
  std::vector<float> scale, minimum;                   // low-bit: [neurons, groups]
  std::vector<int> codes;                              // low-bit: [neurons, width]; of planes, what they look up
  std::vector<int32_t> loud_inputs{}, loud_neurons{};  // protected
  NeuronRows rows;

  RandomRows(WeightFormat format, int64_t neurons, int64_t width, uint32_t seed, std::vector<int32_t> inputs = {},
             std::vector<int32_t> loud = {})
      : format(format), neurons(neurons), width(width), rows(format, neurons, width) {
    is_low_bit(format) ? draw_low_bit(seed, std::move(inputs), std::move(loud)) : draw(seed);
  }
  int64_t groups() const { return (width + 63) / 64; }
  double weight(int64_t neuron, int64_t k) const { return weights[size_t(neuron * width + k)]; }
  bool is_loud(int64_t input) const { return std::count(loud_inputs.begin(), loud_inputs.end(), input) > 0; }

 private:
  void draw(uint32_t seed) {
    std::vector<float> values = random_floats(size_t(neurons * width), seed, 0.1f);
    if (format == WeightFormat::bf16)
      for (float& value : values) value = rounded_to_bf16(value);
    rows.pack(0, 0, {values.data(), DType::f32, neurons, width, width, 1});
    weights.assign(values.begin(), values.end());
  }

  void draw_low_bit(uint32_t seed, std::vector<int32_t> inputs, std::vector<int32_t> loud) {
    const int bits = bits_of(format);
    std::mt19937 generator(seed);
    std::vector<bf16> stored_scale, stored_minimum;
    for (float value : random_floats(size_t(neurons * groups()), seed + 1, 0.2f / float(1 << bits))) {
      stored_scale.push_back(to_bf16(value));
      scale.push_back(rounded_to_bf16(value));
    }
    for (float value : random_floats(size_t(neurons * groups()), seed + 2, 0.1f)) {
      stored_minimum.push_back(to_bf16(value));
      minimum.push_back(bits == 8 ? 0 : rounded_to_bf16(value));
    }
    const std::vector<uint8_t> planes =
        has_planes(format) ? draw_planes(generator, stored_scale, stored_minimum) : std::vector<uint8_t>();
    for (int64_t neuron = 0; neuron < neurons; ++neuron) {
      std::vector<uint8_t> bytes(size_t((width * bits + 7) / 8));
      for (int64_t k = 0; k < width; ++k) {
        const unsigned code = generator() & ((1u << bits) - 1);
        for (int64_t bit = 0; bit < bits; ++bit)
          bytes[size_t((k * bits + bit) / 8)] |= uint8_t((code >> bit & 1) << (k * bits + bit) % 8);
        const size_t group = size_t(neuron * groups() + k / 64);
        int sum = 0;
        for (size_t p = 0; !planes.empty() && p < size_t(bits); ++p)
          if (code >> p & 1) sum += plane_scale_value(planes[group * size_t(bits) + p]);
        codes.push_back(bits == 8 ? int(code) - 128 : planes.empty() ? int(code) : sum);
        weights.push_back(double(minimum[group]) + double(scale[group]) * codes.back());
      }
      const int64_t group = neuron * groups();
      rows.pack_low_bit(neuron, 1, bytes.data(), &stored_scale[size_t(group)],
                        bits == 8 ? nullptr : &stored_minimum[size_t(group)],
                        planes.empty() ? nullptr : &planes[size_t(group * bits)]);
    }
    protect(seed, std::move(inputs), std::move(loud));
  }

  // Scales of planes, and with them 2^(e+1) and -2^e times their sum.
  std::vector<uint8_t> draw_planes(std::mt19937& generator, std::vector<bf16>& stored_scale,
                                   std::vector<bf16>& stored_minimum) {
    std::vector<uint8_t> out;
    for (size_t group = 0; group < scale.size(); ++group) {
      int sum = 0;
      for (int p = 0; p < bits_of(format); ++p) {
        uint8_t byte = 0;
        do byte = uint8_t(generator() & 127);
        while (!is_plane_scale(byte) || sum + plane_scale_value(byte) > kPlaneLimit - (bits_of(format) - p - 1));
        out.push_back(byte), sum += plane_scale_value(byte);
      }
      const float unit = std::ldexp(1.0f, -10 - int(generator() % 3));
      scale[group] = 2 * unit, minimum[group] = -unit * float(sum);
      stored_scale[group] = to_bf16(scale[group]), stored_minimum[group] = to_bf16(minimum[group]);
    }
    return out;
  }

  void protect(uint32_t seed, std::vector<int32_t> inputs, std::vector<int32_t> loud) {
    loud_inputs = std::move(inputs), loud_neurons = std::move(loud);
    const int64_t stride = int64_t(loud_inputs.size()) + 1;
    std::vector<bf16> kept;
    for (float value : random_floats(size_t(neurons * stride), seed + 3, 0.1f)) kept.push_back(to_bf16(value));
    rows.protect(loud_inputs);
    if (!loud_inputs.empty()) {
      rows.pack_protected(0, neurons - 1, kept.data(), stride);
      rows.pack_protected(neurons - 1, 1, &kept[size_t((neurons - 1) * stride)], stride);
    }
    for (int64_t neuron = 0; neuron < neurons; ++neuron)
      for (size_t i = 0; i < loud_inputs.size(); ++i)
        weights[size_t(neuron * width + loud_inputs[i])] = to_f32(kept[size_t(neuron * stride) + i]);

    rows.protect_neurons(loud_neurons);
    for (size_t place = 0; place < loud_neurons.size(); ++place) {
      std::vector<bf16> row;
      for (float value : random_floats(size_t(width), seed + 4 + uint32_t(place), 0.1f)) row.push_back(to_bf16(value));
      rows.pack_protected_neuron(int64_t(place), row.data());
      for (int64_t k = 0; k < width; ++k) weights[size_t(loud_neurons[place] * width + k)] = to_f32(row[size_t(k)]);
    }
  }
};

// A number and how far arithmetic in f32 may be from it.
struct Near {
  double value = 0, tolerance = 0;
};

// The scale of x's group from `begin` on.
inline float quantum(const RandomRows& w, const float* x, int64_t begin) {
  float highest = 0;
  for (int64_t i = begin; i < std::min(begin + 64, w.width); ++i)
    if (!w.is_loud(i)) highest = std::max(highest, std::fabs(x[i]));
  return highest / 127;
}

// x . row `neuron` with x as the kernels see it. Each of the two sums of a low-bit row adds up to `groups` terms a
// lane, then 16 lanes by halves, each term having been rounded twice; the others add `width` terms.
inline Near dot(const RandomRows& w, const float* x, int64_t neuron) {
  Near out;
  double magnitude = 0;
  float s = 0;
  for (int64_t k = 0; k < w.width; ++k) {
    if (k % 64 == 0) s = quantum(w, x, k);
    double seen = w.format == WeightFormat::bf16 ? rounded_to_bf16(x[k]) : x[k];
    if (is_low_bit(w.format) && !w.is_loud(k)) {
      seen = s == 0 ? 0 : double(s) * std::nearbyint(x[k] / s);
      const size_t group = size_t(neuron * w.groups() + k / 64);
      const double code = double(w.scale[group]) * w.codes[size_t(neuron * w.width + k)];
      magnitude += std::fabs(seen) * (std::fabs(code) + std::fabs(double(w.minimum[group])));
    } else {
      magnitude += std::fabs(seen * w.weight(neuron, k));
    }
    out.value += seen * w.weight(neuron, k);
  }
  const int64_t additions = is_low_bit(w.format) ? w.groups() + 8 + int64_t(w.loud_inputs.size()) : w.width;
  out.tolerance = magnitude * double(additions + 2) * 0x1p-24;
  return out;
}

}  // namespace pleat
