// The exact neurons of a folded FFN, and who they are.
#include <algorithm>
#include <cmath>

#include "kernels/cuda/fix_up.h"
#include "lab_matrix.h"

namespace pleat::lab {
namespace {

constexpr int kBin = 64;

struct Ffn {
  Ffn(Lab& lab, WeightFormat format, int neurons, int width)
      : format(format),
        up(lab, format, neurons, width, 1),
        gate(lab, format, neurons, width, 2),
        down(lab, format, neurons, width, 3),
        line(random_values(size_t(neurons), 4)),
        device_line(line, lab.stream()) {
    for (int bin = 0; bin < neurons; bin += kBin) offsets.push_back(bin);
    offsets.push_back(neurons);
  }
  int neurons() const { return up.rows(); }
  int width() const { return up.width(); }
  int bins() const { return int(offsets.size()) - 1; }

  WeightFormat format;
  Matrix up, gate, down;
  std::vector<float> line;  // slope, gate slope and intercept in one
  cuda::DeviceArray<float> device_line;
  std::vector<int32_t> offsets;
};

// A tenth of the neurons of each row.
struct Picks {
  Picks(Lab& lab, const Ffn& ffn, int rows)
      : z(random_values(size_t(rows * ffn.neurons()), 7)),
        device_z(z, lab.stream()),
        low(std::vector<float>(size_t(ffn.neurons()), -2), lab.stream()),
        high(std::vector<float>(size_t(ffn.neurons()), kHigh), lab.stream()),
        selection(ffn.offsets, lab.stream()) {}
  static constexpr float kHigh = 0.8f;
  bool selected(size_t at) const { return z[at] > kHigh; }

  std::vector<float> z;
  cuda::DeviceArray<float> device_z, low, high;
  cuda::DeviceSelection selection;
};

void selection(Lab& lab, const Ffn& ffn, int rows) {
  const Picks picks(lab, ffn, rows);
  lab.measure({.kernel = "select_by_range",
               .shape = concat("[", rows, ", ", ffn.neurons(), "]"),
               .bytes = 4.0 * ffn.neurons() * (rows + 2),
               .check =
                   [&] {
                     int64_t expected = 0;
                     for (int n = 0; n < ffn.neurons(); ++n) {
                       bool any = false;
                       for (int row = 0; row < rows; ++row) any |= picks.selected(size_t(row * ffn.neurons() + n));
                       expected += any;
                     }
                     const int64_t got = picks.selection.selected(lab.stream());
                     return got == expected ? std::string() : concat(got, " neurons, expected ", expected);
                   },
               .call =
                   [&](cuda::StreamHandle stream, int) {
                     cuda::select_by_range(stream, rows, picks.device_z.data(), picks.low.data(), picks.high.data(),
                                           picks.selection);
                   }});
}

// r_n(x) of method.md's equations 2 and 3, with every line c u + c g + c.
double residual(const Ffn& ffn, const float* x, int n, bool gated) {
  const double u = ffn.up.times(x, n).value, c = ffn.line[size_t(n)];
  if (!gated) return std::max(u, 0.0) - (c * u + c);
  const double g = ffn.gate.times(x, n).value;
  return std::max(g, 0.0) * u - (c * u + c * g + c);
}

void fix_up(Lab& lab, const Ffn& ffn, int rows, bool gated) {
  const int width = ffn.width();
  const Picks picks(lab, ffn, rows);
  const std::vector<float> x = random_values(size_t(rows * width), 5);
  const cuda::DeviceArray<float> device_x(x, lab.stream()), parts(size_t(ffn.bins()) * size_t(rows * width));
  cuda::QuantisedRows room(width);
  const cuda::RowInput input = room.quantise(lab.stream().get(), device_x.data(), rows);
  cuda::select_by_range(lab.stream().get(), rows, picks.device_z.data(), picks.low.data(), picks.high.data(),
                        picks.selection);
  const float* const line = ffn.device_line.data();
  const cuda::NeuronConstants constants{nullptr, nullptr, {line, line, line}};
  const double share = double(picks.selection.selected(lab.stream())) / ffn.neurons();
  const int64_t row_bytes = ffn.up.bytes() * (gated ? 2 : 1) + ffn.down.bytes();
  lab.measure(
      {.kernel = gated ? "fix_up_gated" : "fix_up",
       .shape = concat(shape_of("up and down", ffn.format, ffn.up, rows), ", ", int(share * 100 + 0.5), "% exact"),
       .bytes = share * double(row_bytes) + 4.0 * double(parts.size()),
       .check =
           [&] {
             const std::vector<float> got = parts.to_host(lab.stream());
             const int bin = ffn.bins() / 2, row = rows - 1;
             std::vector<Sum> expected(static_cast<size_t>(width));
             for (int n = ffn.offsets[size_t(bin)]; n < ffn.offsets[size_t(bin) + 1]; ++n) {
               if (!picks.selected(size_t(row * ffn.neurons() + n))) continue;
               const double r = residual(ffn, &x[size_t(row * width)], n, gated);
               const std::vector<float> down = ffn.down.row(n);
               for (int k = 0; k < width; ++k) expected[size_t(k)].add(r, down[size_t(k)]);
             }
             // In bf16 residuals are rounded to it, half a unit of 2^-8, from sums that may lie on the other side of a
             // tie.
             for (int k = 0; k < width; ++k) {
               const double roundings = 16.0 * width + (ffn.format == WeightFormat::bf16 ? 0x1p16 : 0) + 4096;
               const int at = (bin * rows + row) * width + k;
               if (std::string wrong = expected[size_t(k)].compare(got[size_t(at)], roundings, at); !wrong.empty())
                 return wrong;
             }
             return std::string();
           },
       .call =
           [&](cuda::StreamHandle stream, int call) {
             const cuda::Rows up = ffn.up.on_device(call), down = ffn.down.on_device(call);
             if (gated)
               cuda::fix_up_gated(stream, input, ffn.gate.on_device(call), up, down, constants, Activation::relu,
                                  picks.selection, parts.data());
             else
               cuda::fix_up(stream, input, up, down, constants, Activation::relu, picks.selection, parts.data());
           }});
}

}  // namespace

void folds(Lab& lab) {
  const int neurons = lab.size(14336, 130), width = lab.size(4096, 192);
  for (const WeightFormat format : {WeightFormat::bf16, WeightFormat::int8, WeightFormat::int4}) {
    const Ffn ffn(lab, format, neurons, width);
    for (const int rows : {1, 4, 16}) {
      if (format == WeightFormat::bf16) selection(lab, ffn, rows);
      fix_up(lab, ffn, rows, false);
      fix_up(lab, ffn, rows, true);
    }
  }
}

}  // namespace pleat::lab
