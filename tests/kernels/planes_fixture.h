#pragma once
// Random matrices in planes, as checkpoints hold them and packed, and plain loops over their numbers.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/matmul.h"
#include "kernels/planes.h"

namespace pleat {

// A matrix as a checkpoint holds it.
struct PlaneFile {
  int planes;
  PlaneScales kind;
  int64_t outputs, inputs;
  std::vector<uint8_t> codes;     // [outputs, ceil(inputs * planes / 8)]
  std::vector<uint8_t> scales;    // see PlanesMatrix::add
  std::vector<int8_t> exponents;  // [groups of 64 outputs, groups of 64 inputs]

  PlaneFile(int planes_, PlaneScales kind_, int64_t outputs_, int64_t inputs_, uint32_t seed = 1)
      : planes(planes_), kind(kind_), outputs(outputs_), inputs(inputs_) {
    std::mt19937 generator(seed);
    codes.resize(size_t(outputs * row_bytes()));
    for (uint8_t& code : codes) code = uint8_t(generator());
    for (int64_t i = 0; i < up(outputs, side()) * tables(); ++i)
      for (int left = kPlaneLimit, plane = 0; plane < planes; ++plane) {
        int value = int(generator() % unsigned(left + 1));
        while (plane_scale_byte(value) == 255) --value;
        left -= value;
        scales.push_back(plane_scale_byte(value));
      }
    for (int64_t i = 0; i < up(outputs, 64) * up(inputs, 64); ++i) exponents.push_back(int8_t(generator() % 5) - 9);
  }
  static int64_t up(int64_t n, int64_t size) { return (n + size - 1) / size; }
  int64_t row_bytes() const { return up(inputs * planes, 8); }
  int64_t side() const { return kind == PlaneScales::column ? 64 : 8; }                    // outputs
  int64_t tables() const { return kind == PlaneScales::column ? inputs : up(inputs, 8); }  // of one such row

  // sum_p A_p b_p, from 2^i +- 2^j.
  int weight(int64_t n, int64_t k) const {
    int sum = 0;
    for (int plane = 0; plane < planes; ++plane) {
      const uint8_t byte =
          scales[size_t((n / side() * tables() + (kind == PlaneScales::column ? k : k / 8)) * planes + plane)];
      const int first = 1 << (byte & 7), second = 1 << (byte >> 3 & 7), scale = first + (byte & 64 ? -second : second);
      const int64_t bit = k * planes + plane;
      sum += codes[size_t(n * row_bytes() + bit / 8)] >> bit % 8 & 1 ? scale : -scale;
    }
    return sum;
  }
  float unit(int64_t n, int64_t k) const {
    return std::ldexp(1.0f, exponents[size_t(n / 64 * up(inputs, 64) + k / 64)]);
  }

  // Outputs [first, first + count) and inputs [begin, end), begin a multiple of 64, as outputs from `to` on.
  void add_to(PlanesMatrix& matrix, int64_t to, int64_t first, int64_t count, int64_t begin, int64_t end) const {
    std::vector<uint8_t> part, bytes;
    const int64_t table = kind == PlaneScales::column ? 1 : 8;
    for (int64_t row = first / side(); row < up(first + count, side()); ++row)
      part.insert(part.end(), scales.begin() + (row * tables() + begin / table) * planes,
                  scales.begin() + (row * tables() + up(end, table)) * planes);
    std::vector<int8_t> powers;
    for (int64_t row = first / 64; row < up(first + count, 64); ++row)
      powers.insert(powers.end(), exponents.begin() + row * up(inputs, 64) + begin / 64,
                    exponents.begin() + row * up(inputs, 64) + up(end, 64));
    for (int64_t n = first; n < first + count; ++n) {
      const auto row = codes.begin() + n * row_bytes();
      bytes.insert(bytes.end(), row + begin * planes / 8, row + up(end * planes, 8));
    }
    matrix.add(to, first, count, kind, part.data(), powers.data());
    matrix.pack(to, count, bytes.data());
  }
  WeightFormat format() const {
    return planes == 4 ? WeightFormat::planes4 : planes == 3 ? WeightFormat::planes3 : WeightFormat::planes2;
  }
  PackedMatrix packed(int64_t first, int64_t count, std::vector<int64_t> leaves, int64_t begin = 0) const {
    const int64_t end = begin + leaves.back();
    PackedMatrix out(format(), end - begin, count, std::move(leaves));
    if (end > begin) add_to(out.planes(), 0, first, count, begin, end);
    return out;
  }

  // Output n of the inputs [begin, end) in the documented order; `size` sums the magnitudes.
  float product(const float* x, int64_t n, int64_t begin, int64_t end, double* exact, double* size) const {
    float y = 0;
    for (int64_t group = begin; group < end; group += 64) {
      float highest = 0;
      for (int64_t k = group; k < std::min(group + 64, end); ++k) highest = std::max(highest, std::fabs(x[k]));
      const float s = highest / 127;
      int32_t sum = 0;
      for (int64_t k = group; s > 0 && k < std::min(group + 64, end); ++k) {
        const int q = int(std::nearbyint(x[k] / s));
        sum += q * weight(n, k);
        *exact += double(s) * q * double(unit(n, k)) * weight(n, k);
        *size += std::fabs(double(s) * q * double(unit(n, k)) * weight(n, k));
      }
      y = std::fma(s * unit(n, group), float(sum), y);
    }
    return y;
  }
};

struct PlaneKind {
  int planes;
  PlaneScales scales;
};
constexpr PlaneKind kPlaneKinds[] = {{4, PlaneScales::column}, {3, PlaneScales::column}, {2, PlaneScales::column},
                                     {4, PlaneScales::block},  {3, PlaneScales::block},  {2, PlaneScales::block}};

}  // namespace pleat
