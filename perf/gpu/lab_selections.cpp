// Neurons by what a step predicts of them: who is computed exactly for a few rows, and what a prompt's lines miss.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "lab_matrix.h"
#include "lab_neurons.h"

namespace pleat::lab {
namespace {

// What is known of each neuron, and a step's predictions of it.
struct Predicted {
  Predicted(Lab& lab, const NeuronParts& parts, int rows)
      : lab(lab),
        parts(parts),
        rows(rows),
        up(lab, random_values(size_t(rows * parts.neurons), 1)),
        gate(lab, random_values(size_t(rows * parts.neurons), 2)),
        up_slope(lab, random_values(size_t(parts.neurons), 3)),
        gate_slope(lab, random_values(size_t(parts.neurons), 4)),
        intercept(lab, random_values(size_t(parts.neurons), 5)),
        factor(lab, positive_values(parts.neurons, 6)) {}
  cuda::DeviceLines lines() const { return {up_slope.data(), gate_slope.data(), intercept.data()}; }
  std::string shape() const { return concat("[", rows, ", ", parts.neurons, "]"); }

  Lab& lab;
  const NeuronParts& parts;
  int rows;
  Values up, gate, up_slope, gate_slope, intercept, factor;
};

// "" where the selection's masks are those of margin(row, neuron) > 0, unless it is so near to 0 that rounding decides,
// and its lists those of the masks.
template <class Margin>
std::string compare_selection(const Predicted& of, const cuda::DeviceSelection& selection, Margin margin) {
  const NeuronParts& parts = of.parts;
  const cuda::SelectionView view = selection.view();
  const std::vector<uint32_t> masks = of.lab.read(view.rows, size_t(parts.neurons));
  const std::vector<int32_t> listed = of.lab.read(view.neuron, size_t(parts.neurons)),
                             counts = of.lab.read(view.count, size_t(view.bins));
  for (int n = 0; n < parts.neurons; ++n)
    for (int row = 0; row < 32; ++row) {
      const double by = row < of.rows ? margin(row, n) : -1;
      if (std::fabs(by) > 1e-5 && (masks[size_t(n)] >> row & 1) != (by > 0))
        return concat("of row ", row, " neuron ", n, " is ", by > 0 ? "left out" : "selected", ", by a margin of ", by);
    }
  for (int bin = 0; bin < view.bins; ++bin) {
    const int begin = parts.bins[size_t(bin)];
    int place = begin;
    for (int n = begin; n < parts.bins[size_t(bin) + 1]; ++n)
      if (masks[size_t(n)] != 0 && listed[size_t(place++)] != n) return concat("neuron ", n, " is not in its place");
    if (counts[size_t(bin)] != place - begin) return concat("bin ", bin, " has ", counts[size_t(bin)]);
  }
  return "";
}

// read_bytes: besides what all write.
template <class Margin, class Call>
void selection(const Predicted& of, const char* kernel, double read_bytes, Margin margin, Call call) {
  const cuda::DeviceSelection selection(of.parts.bins, of.lab.stream());
  of.lab.measure({.kernel = kernel,
                  .shape = of.shape(),
                  .bytes = read_bytes + 4.0 * of.parts.neurons,
                  .check = [&] { return compare_selection(of, selection, margin); },
                  .call = [&](cuda::StreamHandle stream, int) { call(stream, selection); }});
}

// Each by thresholds that a few of a hundred neurons pass.
void select(Lab& lab, const NeuronParts& parts, int rows) {
  const Predicted of(lab, parts, rows);
  const int neurons = parts.neurons;
  const double matrix = 4.0 * rows * neurons, vector = 4.0 * neurons;
  const auto at = [&](int row, int n) { return int64_t(row) * neurons + n; };

  const Values low(lab, std::vector<float>(size_t(neurons), -0.97f)), high(lab, positive_values(neurons, 7));
  selection(
      of, "select_by_range", matrix + 2 * vector,
      [&](int row, int n) { return std::max(low[n] - of.up[at(row, n)], of.up[at(row, n)] - high[n]); },
      [&](cuda::StreamHandle stream, const cuda::DeviceSelection& to) {
        cuda::select_by_range(stream, rows, of.up.data(), low.data(), high.data(), to);
      });
  constexpr float kByMagnitude = 0.9f, kByGate = 1.8f, kByResidual = 2.5f;
  selection(
      of, "select_by_magnitude", matrix, [&](int row, int n) { return std::fabs(of.up[at(row, n)]) - kByMagnitude; },
      [&](cuda::StreamHandle stream, const cuda::DeviceSelection& to) {
        cuda::select_by_magnitude(stream, rows, of.up.data(), kByMagnitude, to);
      });
  selection(
      of, "select_by_gate", matrix + 2 * vector,
      [&](int row, int n) { return std::fabs(of.gate[at(row, n)] - of.up_slope[n]) * of.factor[n] - kByGate; },
      [&](cuda::StreamHandle stream, const cuda::DeviceSelection& to) {
        cuda::select_by_gate(stream, rows, of.gate.data(), of.up_slope.data(), of.factor.data(), kByGate, to);
      });
  selection(
      of, "select_by_residual", 2 * matrix + 4 * vector,
      [&](int row, int n) {
        const double u = of.up[at(row, n)], g = of.gate[at(row, n)];
        const double line = of.up_slope[n] * u + of.gate_slope[n] * g + of.intercept[n];
        return std::fabs(g / (1 + std::exp(-g)) * u - line) * of.factor[n] - kByResidual;
      },
      [&](cuda::StreamHandle stream, const cuda::DeviceSelection& to) {
        cuda::select_by_residual(stream, rows, of.up.data(), of.gate.data(), Activation::silu, of.lines(),
                                 of.factor.data(), kByResidual, to);
      });

  // A slot a row, in the other direction.
  std::vector<int32_t> slots(static_cast<size_t>(rows));
  std::iota(slots.rbegin(), slots.rend(), 0);
  std::vector<uint8_t> chosen;
  for (const float value : of.up.host) chosen.push_back(value > 0.9f);
  const cuda::DeviceArray<int32_t> device_slots(slots, lab.stream());
  const cuda::DeviceArray<uint8_t> device_chosen(chosen, lab.stream());
  selection(
      of, "select_chosen", double(chosen.size()),
      [&](int row, int n) { return chosen[size_t(at(slots[size_t(row)], n))] != 0 ? 1 : -1; },
      [&](cuda::StreamHandle stream, const cuda::DeviceSelection& to) {
        cuda::select_chosen(stream, rows, device_slots.data(), device_chosen.data(), to);
      });
}

// Where a prompt is judged by what its lines miss.
void lines(const Predicted& of, bool gated) {
  const int neurons = of.parts.neurons;
  const cuda::DeviceArray<float> out(of.up.host.size());
  const int arrays = gated ? 3 : 2;
  of.lab.measure({.kernel = "lines_of",
                  .shape = concat(of.shape(), gated ? ", gated" : ""),
                  .bytes = 4.0 * arrays * neurons * (of.rows + 1),
                  .check =
                      [&] {
                        std::vector<Sum> expected(out.size());
                        for (size_t i = 0; i < out.size(); ++i) {
                          const int n = int(i % size_t(neurons));
                          expected[i].add(of.up_slope[n], of.up.host[i]);
                          expected[i].add(1, of.intercept[n]);
                          if (gated) expected[i].add(of.gate_slope[n], of.gate.host[i]);
                        }
                        return compare_sums(out.to_host(of.lab.stream()), expected, 4);
                      },
                  .call =
                      [&](cuda::StreamHandle stream, int) {
                        cuda::lines_of(stream, of.rows, neurons, of.up.data(), gated ? of.gate.data() : nullptr,
                                       of.lines(), out.data());
                      }});
}

void missed(const Predicted& of) {
  const cuda::DeviceArray<float> line(of.gate.host, of.lab.stream());
  of.lab.measure({.kernel = "missed_by_lines",
                  .shape = of.shape(),
                  .bytes = 4.0 * of.parts.neurons * (3 * of.rows + 1),
                  .check =
                      [&] {
                        std::vector<Sum> expected(line.size());
                        for (size_t i = 0; i < line.size(); ++i) {
                          const double factor = of.factor[int64_t(i) % of.parts.neurons];
                          expected[i].add(of.up.host[i], factor);
                          expected[i].add(-of.gate.host[i], factor);
                        }
                        return compare_sums(line.to_host(of.lab.stream()), expected, 2);
                      },
                  .call =
                      [&](cuda::StreamHandle stream, int) {
                        cuda::missed_by_lines(stream, of.rows, of.parts.neurons, of.up.data(), of.factor.data(),
                                              line.data());
                      }});
}

}  // namespace

void selections(Lab& lab) {
  const NeuronParts parts(lab, lab.size(14336, 130));
  for (const int rows : {1, 4, 16}) select(lab, parts, rows);
  const Predicted predicted(lab, parts, lab.size(512, 5));
  for (const bool gated : {false, true}) lines(predicted, gated);
  missed(predicted);
}

}  // namespace pleat::lab
