#include "kernels/cuda/prompt_choice.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "../vectors.h"

namespace pleat::cuda {
namespace {

constexpr int kNeurons = 90, kSlots = 3;
const std::vector<int32_t> kShards = {0, 40, 40, 75, kNeurons};

// The `share` of each shard with the largest of values [kNeurons], the lower first among equals: by sorting.
std::vector<bool> largest(const std::vector<double>& values, double share) {
  std::vector<bool> among(values.size());
  for (size_t shard = 0; shard + 1 < kShards.size(); ++shard) {
    std::vector<int> order(size_t(kShards[shard + 1] - kShards[shard]));
    std::iota(order.begin(), order.end(), kShards[shard]);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return values[size_t(a)] > values[size_t(b)]; });
    order.resize(size_t(std::llround(share * double(order.size()))));
    for (const int n : order) among[size_t(n)] = true;
  }
  return among;
}

struct Prompts {
  // Two prompts side by side, in slots 2 and 0; the second one's end comes later. Some values are equal.
  explicit Prompts(int rows) : rows(rows), values(random_floats(size_t(rows * kNeurons), 3)) {
    for (float& value : values) value = std::round(value * 8) / 8;
    for (int row = 0; row < rows; ++row) {
      const bool second = row >= rows / 2;
      positions.push_back(second ? row - rows / 2 : row);
      slots.push_back(second ? 0 : 2);
      ends.push_back(row == rows / 2 - 1);
    }
  }
  double value(int row, int n) const { return values[size_t(row * kNeurons + n)]; }

  int rows;
  std::vector<float> values;
  std::vector<int32_t> positions, slots, ends;
};

struct OnDevice {
  explicit OnDevice(const Prompts& prompts)
      : offsets(kShards, stream),
        positions(prompts.positions, stream),
        slots(prompts.slots, stream),
        ends(prompts.ends, stream),
        values(prompts.values, stream),
        scores(std::vector<float>(size_t(kSlots * kNeurons), 99), stream),
        chosen(std::vector<uint8_t>(size_t(kSlots * kNeurons), 7), stream),
        rows{prompts.rows, positions.data(), slots.data(), ends.data()},
        shards{offsets.data(), int(kShards.size()) - 1, kNeurons, 40},
        kept{scores.data(), chosen.data()} {}
  Stream stream;
  DeviceArray<int32_t> offsets, positions, slots, ends;
  DeviceArray<float> values, scores;
  DeviceArray<uint8_t> chosen;
  PromptRows rows;
  Shards shards;
  PromptScores kept;
};

TEST(PromptChoice, CoresAreCountedAndTheMostFrequentNeuronsChosenWhereAPromptEnds) {
  const Prompts prompts(11);
  OnDevice device(prompts);
  const DeviceArray<float> marks(prompts.values.size());
  mark_cores(device.stream.get(), prompts.rows, device.shards, 0.4, device.values.data(), marks.data());
  add_scores(device.stream.get(), device.rows, kNeurons, marks.data(), nullptr, device.kept);
  choose(device.stream.get(), device.rows, device.shards, 0.3, device.kept);
  const std::vector<float> scores = device.scores.to_host(device.stream);
  const std::vector<uint8_t> chosen = device.chosen.to_host(device.stream);
  std::vector<double> counts[2];
  for (std::vector<double>& count : counts) count.resize(kNeurons);
  for (int row = 0; row < prompts.rows; ++row) {
    std::vector<double> magnitudes;
    for (int n = 0; n < kNeurons; ++n) magnitudes.push_back(std::fabs(prompts.value(row, n)));
    const std::vector<bool> core = largest(magnitudes, 0.4);
    for (int n = 0; n < kNeurons; ++n) counts[row >= prompts.rows / 2][size_t(n)] += core[size_t(n)];
  }
  const std::vector<bool> expected = largest(counts[0], 0.3);
  for (int n = 0; n < kNeurons; ++n) {
    EXPECT_EQ(scores[size_t(2 * kNeurons + n)], counts[0][size_t(n)]) << n;
    EXPECT_EQ(scores[size_t(n)], counts[1][size_t(n)]) << n;
    EXPECT_EQ(scores[size_t(kNeurons + n)], 99) << "another slot's";
    EXPECT_EQ(chosen[size_t(2 * kNeurons + n)], expected[size_t(n)]) << n;
    EXPECT_EQ(chosen[size_t(n)], 7) << "its prompt goes on";
  }
}

TEST(PromptChoice, ScoresAreSquaresOverTheRowsSquaredNorms) {
  const Prompts prompts(6);
  OnDevice device(prompts);
  const int shards = int(kShards.size()) - 1;
  const DeviceArray<float> squares(size_t(shards * prompts.rows));
  shard_squares(device.stream.get(), prompts.rows, device.shards, device.values.data(), squares.data());
  const std::vector<float> of_shards = squares.to_host(device.stream);
  std::vector<float> norms;
  for (int row = 0; row < prompts.rows; ++row) {
    norms.push_back(0);
    for (int shard = 0; shard < shards; ++shard) {
      double expected = 0;
      for (int n = kShards[size_t(shard)]; n < kShards[size_t(shard) + 1]; ++n)
        expected += std::pow(prompts.value(row, n), 2);
      EXPECT_NEAR(of_shards[size_t(shard * prompts.rows + row)], expected, 1e-5 * expected);
      norms.back() += of_shards[size_t(shard * prompts.rows + row)];
    }
  }
  norms[1] = 0;  // a row of zeros counts for nothing
  const DeviceArray<float> device_norms(norms, device.stream);
  add_scores(device.stream.get(), device.rows, kNeurons, device.values.data(), device_norms.data(), device.kept);
  const std::vector<float> scores = device.scores.to_host(device.stream);
  for (int n = 0; n < kNeurons; ++n) {
    double expected = 0;
    for (const int row : {0, 2}) expected += std::pow(prompts.value(row, n), 2) / norms[size_t(row)];
    EXPECT_NEAR(scores[size_t(2 * kNeurons + n)], expected, 1e-6 * (1 + expected)) << n;
  }
}

TEST(PromptChoice, WhatLinesMissIsTheDifferenceTimesTheFactor) {
  const Stream stream;
  const int rows = 2;
  const size_t count = size_t(rows * kNeurons);
  const std::vector<float> u = random_floats(count, 1), g = random_floats(count, 2), act = random_floats(count, 3),
                           slope = random_floats(kNeurons, 4), gate_slope = random_floats(kNeurons, 5),
                           intercept = random_floats(kNeurons, 6), factor = random_floats(kNeurons, 7);
  const DeviceArray<float> up(u, stream), gate(g, stream), activated(act, stream), c(slope, stream),
      e(gate_slope, stream), f(intercept, stream), by(factor, stream), out(count);
  for (const bool gated : {false, true}) {
    lines_of(stream.get(), rows, kNeurons, up.data(), gated ? gate.data() : nullptr, {c.data(), e.data(), f.data()},
             out.data());
    missed_by_lines(stream.get(), rows, kNeurons, activated.data(), by.data(), out.data());
    const std::vector<float> got = out.to_host(stream);
    for (size_t i = 0; i < count; ++i) {
      const size_t n = i % kNeurons;
      const double line = double(slope[n]) * u[i] + intercept[n] + (gated ? double(gate_slope[n]) * g[i] : 0);
      EXPECT_NEAR(got[i], (act[i] - line) * factor[n], 1e-5) << i;
    }
  }
}

}  // namespace
}  // namespace pleat::cuda
