// Neurons that a prompt chooses for its generation.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "lab_matrix.h"
#include "lab_neurons.h"

namespace pleat::lab {
namespace {

// Two prompts, one behind the other, that end in their last rows.
struct Prompts {
  Prompts(Lab& lab, const NeuronParts& parts, int rows)
      : lab(lab), parts(parts), count(rows), values(lab, coarse(size_t(rows * parts.neurons))) {
    for (int row = 0; row < rows; ++row) {
      const bool second = row >= rows / 2;
      positions.push_back(second ? row - rows / 2 : row);
      slots.push_back(second ? 0 : 1);
      ends.push_back(row == rows / 2 - 1 || row == rows - 1);
    }
    device_positions = {std::span<const int32_t>(positions), lab.stream()};
    device_slots = {std::span<const int32_t>(slots), lab.stream()};
    device_ends = {std::span<const int32_t>(ends), lab.stream()};
  }
  // Of few different magnitudes, so that many are equal.
  static std::vector<float> coarse(size_t count) {
    std::vector<float> values = random_values(count, 8, 20);
    for (float& value : values) value = std::round(value);
    return values;
  }
  cuda::PromptRows rows() const { return {count, device_positions.data(), device_slots.data(), device_ends.data()}; }
  std::string shape() const { return concat("[", count, ", ", parts.neurons, "]"); }
  double value(int row, int n) const { return values[int64_t(row) * parts.neurons + n]; }

  // Appends 1 for the `share` of each shard with the highest scores [neurons], the lower neuron first among equals,
  // else 0.
  void add_highest(const std::vector<double>& scores, double share, std::vector<Sum>* to) const {
    const size_t base = to->size();
    to->resize(base + scores.size());
    for (int shard = 0; shard < NeuronParts::kShards; ++shard) {
      const int begin = parts.shard_offsets[size_t(shard)], end = parts.shard_offsets[size_t(shard) + 1];
      std::vector<int> order(size_t(end - begin));
      std::iota(order.begin(), order.end(), begin);
      std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return scores[size_t(a)] > scores[size_t(b)]; });
      order.resize(size_t(std::llround(share * double(order.size()))));
      for (const int n : order) (*to)[base + size_t(n)].value = 1;
    }
  }

  static constexpr int kSlots = 2;
  Lab& lab;
  const NeuronParts& parts;
  int count;
  Values values;
  std::vector<int32_t> positions, slots, ends;
  cuda::DeviceArray<int32_t> device_positions, device_slots, device_ends;
};

void squares(const Prompts& of) {
  const cuda::DeviceArray<float> out(size_t(NeuronParts::kShards * of.count));
  const cuda::Shards shards = of.parts.shards();
  of.lab.measure({.kernel = "shard_squares",
                  .shape = of.shape(),
                  .bytes = 4.0 * double(of.values.host.size() + out.size()),
                  .check =
                      [&] {
                        std::vector<Sum> expected(out.size());
                        for (int shard = 0; shard < shards.count; ++shard)
                          for (int row = 0; row < of.count; ++row)
                            for (int n = of.parts.shard_offsets[size_t(shard)];
                                 n < of.parts.shard_offsets[size_t(shard) + 1]; ++n)
                              expected[size_t(shard * of.count + row)].add(of.value(row, n), of.value(row, n));
                        return compare_sums(out.to_host(of.lab.stream()), expected, shards.largest);
                      },
                  .call = [&](cuda::StreamHandle stream,
                              int) { cuda::shard_squares(stream, of.count, shards, of.values.data(), out.data()); }});
}

void cores(const Prompts& of) {
  constexpr double kShare = 0.4;
  const cuda::DeviceArray<float> marks(of.values.host.size());
  of.lab.measure({.kernel = "mark_cores",
                  .shape = of.shape(),
                  .bytes = 8.0 * double(marks.size()),
                  .check =
                      [&] {
                        std::vector<Sum> expected;
                        for (int row = 0; row < of.count; ++row) {
                          std::vector<double> magnitudes;
                          for (int n = 0; n < of.parts.neurons; ++n) magnitudes.push_back(std::fabs(of.value(row, n)));
                          of.add_highest(magnitudes, kShare, &expected);
                        }
                        return compare_sums(marks.to_host(of.lab.stream()), expected, 0);
                      },
                  .call =
                      [&](cuda::StreamHandle stream, int) {
                        cuda::mark_cores(stream, of.count, of.parts.shards(), kShare, of.values.data(), marks.data());
                      }});
}

// Of marks, or of values by their row's norm.
void scores(const Prompts& of, bool by_norm) {
  const int neurons = of.parts.neurons;
  std::vector<float> norms = positive_values(of.count, 9);
  norms[1] = 0;  // a row without activations
  const Values squared_norms(of.lab, norms);
  const cuda::DeviceArray<float> scores(std::vector<float>(size_t(Prompts::kSlots * neurons), 99), of.lab.stream());
  of.lab.measure({.kernel = by_norm ? "add_scores by norm" : "add_scores",
                  .shape = of.shape(),
                  .bytes = 4.0 * double(of.values.host.size() + scores.size()) + (by_norm ? 4.0 * of.count : 0.0),
                  .check =
                      [&] {
                        std::vector<Sum> expected(scores.size());
                        for (int row = 0; row < of.count; ++row)
                          for (int n = 0; n < neurons; ++n) {
                            const double value = of.value(row, n);
                            Sum& score = expected[size_t(of.slots[size_t(row)] * neurons + n)];
                            if (!by_norm)
                              score.add(1, value);
                            else if (squared_norms[row] > 0)
                              score.add(value * value, 1 / squared_norms[row]);
                          }
                        return compare_sums(scores.to_host(of.lab.stream()), expected, of.count + 8);
                      },
                  .call =
                      [&](cuda::StreamHandle stream, int) {
                        cuda::add_scores(stream, of.rows(), neurons, of.values.data(),
                                         by_norm ? squared_norms.data() : nullptr, {scores.data(), nullptr});
                      }});
}

void choice(const Prompts& of) {
  constexpr double kShare = 0.3;
  const Values scores(of.lab, Prompts::coarse(size_t(Prompts::kSlots * of.parts.neurons)));
  const cuda::DeviceArray<uint8_t> chosen(scores.host.size());
  of.lab.measure(
      {.kernel = "choose",
       .shape = concat("of ", Prompts::kSlots, " prompts, ", of.shape()),
       .bytes = 5.0 * double(chosen.size()),
       .check =
           [&] {
             std::vector<Sum> expected;
             for (auto from = scores.host.begin(); from != scores.host.end(); from += of.parts.neurons)
               of.add_highest({from, from + of.parts.neurons}, kShare, &expected);
             return compare_sums(chosen.to_host(of.lab.stream()), expected, 0);
           },
       .call =
           [&](cuda::StreamHandle stream, int) {
             cuda::choose(stream, of.rows(), of.parts.shards(), kShare, {scores.device.data(), chosen.data()});
           }});
}

}  // namespace

void choices(Lab& lab) {
  const NeuronParts parts(lab, lab.size(14336, 130));
  const Prompts prompts(lab, parts, lab.size(512, 5));
  squares(prompts);
  cores(prompts);
  for (const bool by_norm : {false, true}) scores(prompts, by_norm);
  choice(prompts);
}

}  // namespace pleat::lab
