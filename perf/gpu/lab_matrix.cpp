#include "lab_matrix.h"

#include <algorithm>
#include <cmath>

#include "kernels/context.h"
#include "kernels/planes.h"

namespace pleat::lab {

std::vector<float> random_values(size_t count, uint32_t seed, float scale) {
  std::vector<float> values(count);
  uint32_t state = seed * 2654435761u + 1;
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = (float(state >> 8) / float(1 << 23) - 1) * scale;
  }
  return values;
}

std::vector<float> positive_values(int count, uint32_t seed) {
  std::vector<float> values = random_values(size_t(count), seed, 0.5f);
  for (float& value : values) value += 1;
  return values;
}

Matrix::Matrix(const Lab& lab, WeightFormat format, int rows, int width, uint32_t seed) : host_(format, rows, width) {
  const std::vector<float> values = random_values(size_t(width) + 8191, seed, 0.04f);
  const auto from = [&](int row) { return size_t(row) * 2654435761u % 8191; };
  if (is_low_bit(format)) {
    const int bits = bits_of(format);
    const int64_t groups = host_.groups(), bytes = (int64_t(width) * bits + 7) / 8;
    const bool planes = has_planes(format);
    const float scale = planes ? 0.04f / kPlaneLimit : 0.08f / float(1 << bits);
    for (int row = 0; row < rows; ++row) {
      std::vector<uint8_t> codes(static_cast<size_t>(bytes));
      for (size_t i = 0; i < codes.size(); ++i) codes[i] = uint8_t((i + from(row)) * 2654435761u >> 13);
      const std::vector<bf16> scales(size_t(groups), to_bf16(scale * (1 + 0.1f * float(row % 7)))),
          minimums(size_t(groups), to_bf16(planes ? 0.01f : -0.04f));
      std::vector<uint8_t> plane_scales;
      for (int64_t i = 0; planes && i < groups * bits; ++i)
        plane_scales.push_back(plane_scale_byte((i / bits % 3 == 0 ? 56 : 64) >> (i % bits)));
      host_.pack_low_bit(row, 1, codes.data(), scales.data(), bits == 8 ? nullptr : minimums.data(),
                         planes ? plane_scales.data() : nullptr);
    }
  } else {
    for (int row = 0; row < rows; ++row)
      host_.pack(row, 0, {values.data() + from(row), DType::f32, 1, width, width, 1});
  }
  for (int copy = 0; copy == 0 || copy < lab.copies(copies_[0].bytes()); ++copy)
    copies_.emplace_back(host_, lab.stream());
}

std::vector<float> Matrix::row(int index) const {
  const int64_t padded = (width() + 15) / 16 * 16;
  std::vector<float> values(static_cast<size_t>(padded));
  if (is_low_bit(host_.format()))
    host_.unpack_block(Isa::portable, index, 1, 0, padded, values.data(), padded);
  else
    host_.unpack(index, values.data());
  values.resize(size_t(width()));
  return values;
}

Sum Matrix::times(const float* x, int index, int begin, int end) const {
  const std::vector<float> weights = row(index);
  Sum sum;
  float quantum = 0;
  for (int k = begin; k < end; ++k) {
    double seen = x[k];
    if (is_low_bit(host_.format())) {
      if (k % kGroup == 0 || k == begin) {
        const int group = k / kGroup * kGroup;
        quantum = 0;
        for (int i = group; i < std::min<int>(group + kGroup, width()); ++i)
          quantum = std::max(quantum, std::fabs(x[i]));
        quantum /= 127;
      }
      seen = quantum == 0 ? 0 : double(quantum) * std::nearbyint(x[k] / quantum);
    } else if (host_.format() == WeightFormat::bf16) {
      seen = to_f32(to_bf16(x[k]));
    }
    sum.add(seen, weights[size_t(k)]);
  }
  // Codes and minimums are multiplied apart; their products may be larger than a weight's.
  if (is_low_bit(host_.format())) sum.magnitude *= 4;
  return sum;
}

std::string compare_products(const Matrix& w, const std::vector<float>& x, const std::vector<float>& y, int rows,
                             int samples, double ulps) {
  for (int sample = 0; sample < samples; ++sample) {
    const int row = sample * 37 % rows, output = int(int64_t(sample) * 7919 % w.rows());
    const int at = row * w.rows() + output;
    const Sum expected = w.times(&x[size_t(row * w.width())], output);
    if (std::string wrong = expected.compare(y[size_t(at)], ulps, at); !wrong.empty()) return wrong;
  }
  return {};
}

std::string shape_of(const char* what, WeightFormat format, const Matrix& w, int rows) {
  return concat(what, " ", name_of(format), " [", w.rows(), ", ", w.width(), "], ", rows, rows == 1 ? " row" : " rows");
}

}  // namespace pleat::lab
