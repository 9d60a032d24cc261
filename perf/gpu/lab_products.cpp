// Products of a few rows: what decoding spends its time on.
#include <algorithm>
#include <cmath>

#include "kernels/cuda/multiply_rows.h"
#include "lab_matrix.h"

namespace pleat::lab {
namespace {

constexpr int kSamples = 37;  // outputs that are checked

void few_rows(Lab& lab, const Matrix& w, WeightFormat format, int rows, int leaf_count) {
  const std::vector<float> x = random_values(size_t(rows * w.width()), 5);
  const cuda::DeviceArray<float> device_x(x, lab.stream()), y(size_t(rows * w.rows()));
  cuda::QuantisedRows room(w.width());
  std::vector<int32_t> offsets;
  cuda::DeviceLeaves leaves;
  for (int leaf = 0; leaf_count > 0 && leaf <= leaf_count; ++leaf)
    offsets.push_back(int32_t(int64_t(w.width()) * leaf / leaf_count / kGroup * kGroup));
  if (leaf_count > 0) leaves = {offsets, std::vector<TreeNode>{{0, leaf_count}}, 0, lab.stream()};
  // Quantisation is an entry of its own.
  cuda::RowInput input = cuda::RowInput::of_floats(device_x.data(), rows, w.width());
  if (is_low_bit(format)) input = room.quantise(lab.stream().get(), device_x.data(), rows);
  lab.measure(
      {.kernel = leaf_count > 0 ? "multiply_rows by leaves" : "multiply_rows",
       .shape = shape_of("w", format, w, rows),
       .bytes = double(w.bytes()) + 4.0 * rows * (w.width() + w.rows()),
       .flops = 2.0 * rows * w.rows() * w.width(),
       .check = [&] { return compare_products(w, x, y.to_host(lab.stream()), rows, kSamples * rows, w.width()); },
       .call =
           [&](cuda::StreamHandle stream, int call) {
             cuda::multiply_rows(stream, input, {{w.on_device(call), nullptr, y.data(), w.rows(), leaves.view()}});
           }});
}

void quantisation(Lab& lab, int rows, int width) {
  const std::vector<float> x = random_values(size_t(rows * width), 6);
  const cuda::DeviceArray<float> device_x(x, lab.stream());
  cuda::QuantisedRows room(width);
  const int groups = (width + kGroup - 1) / kGroup;
  cuda::RowInput out;
  lab.measure({.kernel = "QuantisedRows::quantise",
               .shape = concat("[", rows, ", ", width, "]"),
               .bytes = double(rows) * (5.0 * width + 8.0 * groups),
               .check =
                   [&] {
                     const std::vector<float> scales = lab.read(out.scales, size_t(rows * groups));
                     for (int i = 0; i < rows * groups; ++i) {
                       float highest = 0;
                       for (int k = 0; k < kGroup && i % groups * kGroup + k < width; ++k)
                         highest = std::max(highest, std::abs(x[size_t(i / groups * width + i % groups * kGroup + k)]));
                       Sum expected;
                       expected.add(highest, 1.0 / 127);
                       if (std::string wrong = expected.compare(scales[size_t(i)], 4, i); !wrong.empty()) return wrong;
                     }
                     return std::string();
                   },
               .call = [&](cuda::StreamHandle stream, int) { out = room.quantise(stream, device_x.data(), rows); }});
}

}  // namespace

void products(Lab& lab) {
  const int outputs = lab.size(8192, 24), width = lab.size(4096, 256);
  for (const WeightFormat format : {WeightFormat::f32, WeightFormat::bf16, WeightFormat::int8, WeightFormat::int6,
                                    WeightFormat::int4, WeightFormat::int3, WeightFormat::int2}) {
    const Matrix w(lab, format, outputs, width, 1);
    for (const int rows : {1, 4, 16}) few_rows(lab, w, format, rows, 0);
    few_rows(lab, w, format, 1, lab.size(32, 3));
  }
  quantisation(lab, 1, width);
  quantisation(lab, 16, width);
}

}  // namespace pleat::lab
