// Products with matrices in planes, and their widening for prompts.
#include <algorithm>
#include <cmath>

#include "kernels/cuda/multiply_rows.h"
#include "kernels/cuda/widened_planes.h"
#include "lab_matrix.h"

namespace pleat::lab {
namespace {

constexpr int kSamples = 37;  // outputs that are checked

PlanesMatrix random_planes(int planes, PlaneScales kind, int outputs, int inputs) {
  PlanesMatrix w(planes, outputs, inputs);
  const auto up = [](int count, int64_t size) { return size_t((count + size - 1) / size); };
  const bool by_column = kind == PlaneScales::column;
  const size_t tables =
      by_column ? up(outputs, kPlaneOutputs) * size_t(inputs) : up(outputs, kPlaneBlock) * up(inputs, kPlaneBlock);
  std::vector<uint8_t> scales, codes(up(inputs * planes, 8) * size_t(outputs));
  for (size_t table = 0; table < tables; ++table)
    for (int plane = 0; plane < planes; ++plane)
      scales.push_back(plane_scale_byte((table % 3 == 0 ? 56 : 64) >> (planes - plane)));
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = uint8_t(i * 2654435761u >> 13);
  const std::vector<int8_t> exponents(up(outputs, kPlaneOutputs) * up(inputs, kGroup), -10);
  w.add(0, 0, outputs, kind, scales.data(), exponents.data());
  w.pack(0, outputs, codes.data());
  return w;
}

class PlanesOnDevice {
 public:
  PlanesOnDevice(const Lab& lab, int planes, PlaneScales kind, int outputs, int inputs)
      : host_(random_planes(planes, kind, outputs, inputs)) {
    for (int copy = 0; copy == 0 || copy < lab.copies(copies_[0].bytes()); ++copy)
      copies_.emplace_back(host_, lab.stream());
    shape_ = concat(planes, " planes ", kind == PlaneScales::column ? "by column" : "by block", " [", outputs, ", ",
                    inputs, "]");
  }
  cuda::Rows on_device(int call) const { return copies_[size_t(call) % copies_.size()].view(); }
  int64_t bytes() const { return copies_[0].bytes(); }
  std::vector<float> row(int output) const {
    std::vector<float> weights(size_t(host_.inputs()));
    host_.row(output, weights.data());
    return weights;
  }
  const std::string& shape() const { return shape_; }
  const PlanesMatrix& host() const { return host_; }

 private:
  PlanesMatrix host_;
  std::vector<cuda::DeviceRows> copies_;
  std::string shape_;
};

// x [width] times output `index`, with x quantised.
Sum times(const PlanesOnDevice& w, const float* x, int index) {
  const std::vector<float> weights = w.row(index);
  Sum sum;
  for (int64_t group = 0; group < w.host().inputs(); group += kGroup) {
    const int64_t end = std::min(group + kGroup, w.host().inputs());
    float quantum = 0;
    for (int64_t k = group; k < end; ++k) quantum = std::max(quantum, std::fabs(x[k]) / 127);
    for (int64_t k = group; k < end; ++k) sum.add(double(quantum) * std::nearbyint(x[k] / quantum), weights[size_t(k)]);
  }
  return sum;
}

void few_rows(Lab& lab, const PlanesOnDevice& w, int rows, int leaf_count) {
  const int outputs = int(w.host().outputs()), width = int(w.host().inputs());
  const std::vector<float> x = random_values(size_t(rows * width), 5);
  const cuda::DeviceArray<float> device_x(x, lab.stream()), y(size_t(rows * outputs));
  cuda::QuantisedRows room(width);
  cuda::DeviceLeaves leaves;
  std::vector<int32_t> offsets;
  for (int leaf = 0; leaf_count > 0 && leaf <= leaf_count; ++leaf)
    offsets.push_back(int32_t(int64_t(width) * leaf / leaf_count / kGroup * kGroup));
  if (leaf_count > 0) leaves = {offsets, std::vector<TreeNode>{{0, leaf_count}}, 0, lab.stream()};
  const cuda::RowInput input = room.quantise(lab.stream().get(), device_x.data(), rows);
  lab.measure(
      {.kernel = leaf_count > 0 ? "multiply_planes by leaves" : "multiply_planes",
       .shape = concat(w.shape(), ", ", rows, rows == 1 ? " row" : " rows"),
       .bytes = double(w.bytes()) + 4.0 * rows * (width + outputs),
       .flops = 2.0 * rows * outputs * width,
       .check =
           [&] {
             const std::vector<float> got = y.to_host(lab.stream());
             for (int sample = 0; sample < kSamples * rows; ++sample) {
               const int row = sample % rows, output = int(int64_t(sample) * 7919 % outputs);
               const Sum expected = times(w, &x[size_t(row * width)], output);
               const int at = row * outputs + output;
               if (std::string wrong = expected.compare(got[size_t(at)], width, at); !wrong.empty()) return wrong;
             }
             return std::string();
           },
       .call =
           [&](cuda::StreamHandle stream, int call) {
             cuda::multiply_rows(stream, input, {{w.on_device(call), nullptr, y.data(), outputs, leaves.view()}});
           }});
}

// A matrix, or rows, which have minimums.
template <class W>
void widening(Lab& lab, const W& w, std::string shape) {
  const cuda::Rows from = w.on_device(0);
  const cuda::WidenedPlanes room(cuda::WidenedPlanes::bytes_of(from));
  const int groups = (from.width + 63) / 64;
  cuda::Rows wide;
  lab.measure({.kernel = "WidenedPlanes::widen",
               .shape = std::move(shape),
               .bytes = double(w.bytes()) + double(cuda::WidenedPlanes::bytes_of(from)),
               .check =
                   [&] {
                     for (int output = 0; output < wide.rows; output += 1 + wide.rows / 7) {
                       const std::vector<float> expected = w.row(output);
                       const std::vector<unsigned char> row =
                           lab.read(wide.data + output * wide.stride, size_t(wide.stride));
                       const bf16* const scales = reinterpret_cast<const bf16*>(row.data() + groups * 64);
                       for (int k = 0; k < wide.width; ++k) {
                         // Byte 4 l + i of a group's codes is that of input 16 i + l.
                         const int group = k / 64, code = row[size_t(group * 64 + k % 16 * 4 + k % 64 / 16)] - 128;
                         const double got = double(to_f32(scales[group])) * code +
                                            (wide.has_minimums ? to_f32(scales[groups + group]) : 0);
                         Sum weight;
                         weight.add(1, expected[size_t(k)]);  // of rows it was rounded once
                         if (std::string wrong = weight.compare(got, wide.has_minimums ? 2 : 0, k); !wrong.empty())
                           return concat("output ", output, "'s ", wrong);
                       }
                     }
                     return std::string();
                   },
               .call = [&](cuda::StreamHandle stream, int call) { wide = room.widen(stream, w.on_device(call)); }});
}

}  // namespace

void planes(Lab& lab) {
  const int outputs = lab.size(8192, 70), width = lab.size(4096, 256);
  for (const int count : {4, 3, 2})
    for (const PlaneScales kind : {PlaneScales::column, PlaneScales::block}) {
      const PlanesOnDevice w(lab, count, kind, outputs, width);
      for (const int rows : {1, 4, 16}) few_rows(lab, w, rows, 0);
      few_rows(lab, w, 1, lab.size(32, 3));
      if (kind == PlaneScales::column) widening(lab, w, w.shape());
    }
  for (const WeightFormat format : {WeightFormat::planes4, WeightFormat::planes3, WeightFormat::planes2})
    widening(lab, Matrix(lab, format, outputs, width, 1),
             concat(name_of(format), " rows [", outputs, ", ", width, "]"));
}

}  // namespace pleat::lab
