// Products that see the largest of their inputs only, and neurons that are known but for their down rows.
#include <algorithm>
#include <cmath>

#include "kernels/cuda/multiply_selected.h"
#include "lab_matrix.h"

namespace pleat::lab {
namespace {

constexpr float kThreshold = 0.4f;  // of numbers that lie evenly between -1 and 1: 60% are above

bool selected(float value) { return std::fabs(value) > kThreshold; }

// The last row's outputs of a matrix by input.
std::string compare(const Matrix& w, WeightFormat format, const float* x, const float* y) {
  std::vector<Sum> expected(static_cast<size_t>(w.width()));
  for (int i = 0; i < w.rows(); ++i) {
    if (!selected(x[i])) continue;
    const double seen = format == WeightFormat::bf16 ? to_f32(to_bf16(x[i])) : x[i];
    const std::vector<float> weights = w.row(i);
    for (int n = 0; n < w.width(); ++n) expected[size_t(n)].add(seen, weights[size_t(n)]);
  }
  // Codes and minimums are multiplied apart; their products may be larger than a weight's.
  for (int n = 0; n < w.width(); ++n)
    if (std::string wrong = expected[size_t(n)].compare(y[n], 4.0 * w.rows() + 64, n); !wrong.empty()) return wrong;
  return {};
}

// Gate and up, or W1 alone.
void products(Lab& lab, WeightFormat format, const Matrix& up, const Matrix& gate, int rows, bool gated) {
  const int inputs = up.rows(), outputs = up.width(), matrices = gated ? 2 : 1;
  const std::vector<float> x = random_values(size_t(rows * inputs), 5);
  const cuda::DeviceArray<float> device_x(x, lab.stream()), y(size_t(matrices * rows * outputs)),
      work(cuda::selected_work(rows, inputs, outputs, matrices));
  const cuda::DeviceSelection of(cuda::input_bins(inputs), lab.stream());
  cuda::select_by_magnitude(lab.stream().get(), rows, device_x.data(), kThreshold, of);
  const double share = double(of.selected(lab.stream())) / inputs;
  lab.measure({.kernel = "multiply_selected",
               .shape = concat(shape_of(gated ? "gate and up" : "W1", format, up, rows), ", ", int(share * 100 + 0.5),
                               "% of the inputs"),
               .bytes = matrices * (share * double(up.bytes()) + 4.0 * rows * outputs) + 4.0 * rows * inputs,
               .check =
                   [&] {
                     const std::vector<float> got = y.to_host(lab.stream());
                     const float* const row = &x[size_t((rows - 1) * inputs)];
                     std::string wrong = compare(up, format, row, &got[size_t((rows - 1) * outputs)]);
                     if (wrong.empty() && gated)
                       wrong = compare(gate, format, row, &got[size_t((2 * rows - 1) * outputs)]);
                     return wrong;
                   },
               .call =
                   [&](cuda::StreamHandle stream, int call) {
                     const cuda::SelectedProduct of_up{up.on_device(call), nullptr, y.data()},
                         of_gate{gate.on_device(call), nullptr, y.data() + rows * outputs};
                     if (gated)
                       cuda::multiply_selected(stream, rows, device_x.data(), {of_up, of_gate}, of, work.data());
                     else
                       cuda::multiply_selected(stream, rows, device_x.data(), {of_up}, of, work.data());
                   }});
}

void known(Lab& lab, int neurons, int rows) {
  const size_t all = size_t(rows * neurons);
  const std::vector<float> up = random_values(all, 1), gate = random_values(all, 2),
                           line = random_values(size_t(neurons), 3);
  const cuda::DeviceArray<float> device_up(up, lab.stream()), device_gate(gate, lab.stream()),
      device_line(line, lab.stream()), residuals(all);
  std::vector<int32_t> bins;
  for (int bin = 0; bin < neurons; bin += 64) bins.push_back(bin);
  bins.push_back(neurons);
  const cuda::DeviceSelection of(bins, lab.stream());
  const float threshold = 0.1f;
  lab.measure({.kernel = "select_known",
               .shape = concat("[", rows, ", ", neurons, "]"),
               .bytes = 4.0 * neurons * (3 * rows + 4),
               .check =
                   [&] {
                     const std::vector<float> got = residuals.to_host(lab.stream());
                     for (size_t at = 0; at < all; ++at) {
                       const float value = std::max(gate[at], 0.0f) * up[at], c = line[at % size_t(neurons)];
                       if (std::fabs(value) <= threshold) continue;
                       Sum expected;
                       expected.add(1, value);
                       for (const float of_line : {up[at], gate[at], 1.0f}) expected.add(-c, of_line);
                       if (std::string wrong = expected.compare(got[at], 8, int(at)); !wrong.empty()) return wrong;
                     }
                     return std::string();
                   },
               .call =
                   [&](cuda::StreamHandle stream, int) {
                     const float* const c = device_line.data();
                     cuda::select_known(stream, rows, device_up.data(), device_gate.data(), Activation::relu, {c, c, c},
                                        threshold, of, residuals.data());
                   }});
}

}  // namespace

void cut_inputs(Lab& lab) {
  const int inputs = lab.size(4096, 600), neurons = lab.size(14336, 130);
  for (const int rows : {1, 16}) known(lab, neurons, rows);
  for (const WeightFormat format : {WeightFormat::bf16, WeightFormat::int8, WeightFormat::int4}) {
    const Matrix up(lab, format, inputs, neurons, 1), gate(lab, format, inputs, neurons, 2);
    for (const int rows : {1, 4, 16})
      for (const bool gated : {false, true}) products(lab, format, up, gate, rows, gated);
  }
}

}  // namespace pleat::lab
