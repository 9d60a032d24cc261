// The exact neurons of a folded FFN.
#include <algorithm>
#include <cmath>

#include "kernels/cuda/fix_up.h"
#include "lab_matrix.h"
#include "lab_neurons.h"

namespace pleat::lab {
namespace {

constexpr int kShards = NeuronParts::kShards;

struct Ffn {
  Ffn(Lab& lab, WeightFormat format, int neurons, int width)
      : format(format),
        up(lab, format, neurons, width, 1),
        gate(lab, format, neurons, width, 2),
        down(lab, format, neurons, width, 3),
        line(random_values(size_t(neurons), 4)),
        device_line(line, lab.stream()),
        parts(lab, neurons) {}
  int neurons() const { return up.rows(); }
  int width() const { return up.width(); }

  WeightFormat format;
  Matrix up, gate, down;
  std::vector<float> line;  // slope, gate slope and intercept in one
  cuda::DeviceArray<float> device_line;
  NeuronParts parts;
};

// A tenth of the neurons of each row.
struct Picks {
  Picks(Lab& lab, const Ffn& ffn, int rows)
      : z(random_values(size_t(rows * ffn.neurons()), 7)),
        device_z(z, lab.stream()),
        low(std::vector<float>(size_t(ffn.neurons()), -2), lab.stream()),
        high(std::vector<float>(size_t(ffn.neurons()), kHigh), lab.stream()),
        selection(ffn.parts.bins, lab.stream()) {}
  static constexpr float kHigh = 0.8f;
  bool selected(size_t at) const { return z[at] > kHigh; }

  std::vector<float> z;
  cuda::DeviceArray<float> device_z, low, high;
  cuda::DeviceSelection selection;
};

// r_n(x) of method.md's equations 2 and 3, with every line c u + c g + c.
double residual(const Ffn& ffn, const float* x, int n, bool gated) {
  const double u = ffn.up.times(x, n).value, c = ffn.line[size_t(n)];
  if (!gated) return std::max(u, 0.0) - (c * u + c);
  const double g = ffn.gate.times(x, n).value;
  return std::max(g, 0.0) * u - (c * u + c * g + c);
}

// What fix-ups share, one after the other.
struct FixUp {
  FixUp(Lab& lab, const Ffn& ffn, int rows, bool gated)
      : lab(lab),
        ffn(ffn),
        rows(rows),
        gated(gated),
        picks(lab, ffn, rows),
        x(random_values(size_t(rows * ffn.width()), 5)),
        device_x(x, lab.stream()),
        residuals(size_t(rows * ffn.neurons())),
        sums(size_t(kShards * rows * ffn.width())),
        room(ffn.width()),
        input(room.quantise(lab.stream().get(), device_x.data(), rows)) {
    cuda::select_by_range(lab.stream().get(), rows, picks.device_z.data(), picks.low.data(), picks.high.data(),
                          picks.selection);
    share = double(picks.selection.selected(lab.stream())) / ffn.neurons();
  }
  std::string shape(const char* what) const {
    return concat(shape_of(what, ffn.format, ffn.up, rows), ", ", int(share * 100 + 0.5), "% exact");
  }
  cuda::ExactFfn exact(int call) const {
    const float* const line = ffn.device_line.data();
    return {gated ? ffn.gate.on_device(call) : cuda::Rows(),
            ffn.up.on_device(call),
            ffn.down.on_device(call),
            {nullptr, nullptr, {line, line, line}},
            Activation::relu};
  }

  Lab& lab;
  const Ffn& ffn;
  int rows;
  bool gated;
  Picks picks;
  std::vector<float> x;
  cuda::DeviceArray<float> device_x, residuals, sums;
  cuda::QuantisedRows room;
  cuda::RowInput input;
  double share = 0;
};

void residuals(const FixUp& of) {
  const Ffn& ffn = of.ffn;
  of.lab.measure(
      {.kernel = "exact_residuals",
       .shape = of.shape(of.gated ? "up and gate" : "up"),
       .bytes = of.share * double(ffn.up.bytes() * (of.gated ? 2 : 1) + 8 * of.rows * ffn.neurons()),
       .check =
           [&] {
             const std::vector<float> got = of.residuals.to_host(of.lab.stream());
             for (int n = 0; n < ffn.neurons(); n += 37)
               for (int row = 0; row < of.rows; ++row) {
                 const size_t at = size_t(row * ffn.neurons() + n);
                 if (!of.picks.selected(at)) continue;
                 const double r = residual(ffn, &of.x[size_t(row * ffn.width())], n, of.gated);
                 Sum expected;
                 expected.add(r, 1);
                 expected.magnitude += 1;
                 if (std::string wrong = expected.compare(got[at], 16.0 * ffn.width() + 4096, int(at)); !wrong.empty())
                   return wrong;
               }
             return std::string();
           },
       .call =
           [&](cuda::StreamHandle stream, int call) {
             cuda::exact_residuals(stream, of.input, of.exact(call), of.picks.selection, of.residuals.data());
           }});
}

// Of the residuals that stand there.
void exact_rows(const FixUp& of) {
  const Ffn& ffn = of.ffn;
  const int width = ffn.width();
  of.lab.measure(
      {.kernel = "add_exact_rows",
       .shape = of.shape("down"),
       .bytes = of.share * double(ffn.down.bytes() + 4 * of.rows * ffn.neurons()) + 4.0 * double(of.sums.size()),
       .check =
           [&] {
             const std::vector<float> got = of.sums.to_host(of.lab.stream());
             const int shard = kShards / 2, row = of.rows - 1;
             std::vector<Sum> expected(static_cast<size_t>(width));
             for (int n = ffn.parts.shard_offsets[size_t(shard)]; n < ffn.parts.shard_offsets[size_t(shard) + 1]; ++n) {
               if (!of.picks.selected(size_t(row * ffn.neurons() + n))) continue;
               const double r = residual(ffn, &of.x[size_t(row * width)], n, of.gated);
               const std::vector<float> down = ffn.down.row(n);
               for (int k = 0; k < width; ++k) expected[size_t(k)].add(r, down[size_t(k)]);
             }
             // In bf16 residuals are rounded to it, half a unit of 2^-8, from sums that may lie on the other side of a
             // tie.
             for (int k = 0; k < width; ++k) {
               const double roundings = 16.0 * width + (ffn.format == WeightFormat::bf16 ? 0x1p16 : 0) + 4096;
               const int at = (shard * of.rows + row) * width + k;
               if (std::string wrong = expected[size_t(k)].compare(got[size_t(at)], roundings, at); !wrong.empty())
                 return wrong;
             }
             return std::string();
           },
       .call =
           [&](cuda::StreamHandle stream, int call) {
             cuda::add_exact_rows(stream, of.rows, {of.exact(call).down}, ffn.parts.shards(), of.picks.selection,
                                  of.residuals.data(), of.sums.data());
           }});
}

}  // namespace

void folds(Lab& lab) {
  const int neurons = lab.size(14336, 130), width = lab.size(4096, 192);
  for (const WeightFormat format : {WeightFormat::bf16, WeightFormat::int8, WeightFormat::int4}) {
    const Ffn ffn(lab, format, neurons, width);
    for (const int rows : {1, 4, 16}) {
      const FixUp plain(lab, ffn, rows, false), gated(lab, ffn, rows, true);
      residuals(plain);
      exact_rows(plain);
      residuals(gated);
    }
  }
}

}  // namespace pleat::lab
