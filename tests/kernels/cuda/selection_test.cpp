#include "kernels/cuda/selection.h"

#include <gtest/gtest.h>

#include <functional>

#include "../vectors.h"

namespace pleat::cuda {
namespace {

const std::vector<int32_t> kBins = {0, 7, 7, 300, 1000, 1009};
constexpr int kNeurons = 1009;

// What the selection holds is, bin by bin, the neurons for which `wanted(row, neuron)` is true of some row, ascending.
void expect_selected(const DeviceSelection& selection, const Stream& stream, int rows,
                     const std::function<bool(int, int)>& wanted) {
  const SelectionView view = selection.view();
  const auto host = [&](auto* device, size_t count) {
    std::vector<std::remove_cvref_t<decltype(*device)>> out(count);
    copy_to_host(out.data(), device, count * sizeof(*device), stream.get());
    stream.wait();
    return out;
  };
  const auto count = host(view.count, kBins.size() - 1);
  const auto neuron = host(view.neuron, kNeurons);
  const auto masks = host(view.rows, kNeurons);
  for (size_t bin = 0; bin + 1 < kBins.size(); ++bin) {
    int32_t place = kBins[bin];
    for (int n = kBins[bin]; n < kBins[bin + 1]; ++n) {
      uint32_t mask = 0;
      for (int row = 0; row < rows; ++row) mask |= uint32_t(wanted(row, n)) << row;
      ASSERT_EQ(masks[size_t(n)], mask) << "neuron " << n;
      if (mask == 0) continue;
      ASSERT_LT(place, kBins[bin] + count[bin]) << "bin " << bin;
      ASSERT_EQ(neuron[size_t(place)], n);
      ++place;
    }
    ASSERT_EQ(place, kBins[bin] + count[bin]) << "bin " << bin;
  }
}

TEST(DeviceSelection, IsWhoLeavesTheRangeInOrder) {
  const Stream stream;
  const DeviceSelection selection(kBins, stream);
  for (const int rows : {1, 5, 16})
    for (const float width : {0.0f, 1.5f, 100.0f}) {
      const std::vector<float> z = random_floats(size_t(rows * kNeurons), 1), middle = random_floats(kNeurons, 2);
      std::vector<float> low = middle, high = middle;
      for (float& value : low) value -= width;
      for (float& value : high) value += width;
      const DeviceArray<float> device_z(z, stream), device_low(low, stream), device_high(high, stream);
      select_by_range(stream.get(), rows, device_z.data(), device_low.data(), device_high.data(), selection);
      expect_selected(selection, stream, rows, [&](int row, int n) {
        const float value = z[size_t(row * kNeurons + n)];
        return value < low[size_t(n)] || value > high[size_t(n)];
      });
    }
}

TEST(DeviceSelection, ByGateAndByResidualIsWhatTheirScoresSay) {
  const Stream stream;
  const DeviceSelection selection(kBins, stream);
  const int rows = 3;
  const size_t all = size_t(rows * kNeurons);
  const std::vector<float> up = random_floats(all, 1), gate = random_floats(all, 2), c = random_floats(kNeurons, 3),
                           e = random_floats(kNeurons, 4), f = random_floats(kNeurons, 5);
  std::vector<float> factor = random_floats(kNeurons, 6);
  for (float& value : factor) value = std::fabs(value);
  const DeviceArray<float> device_up(up, stream), device_gate(gate, stream), device_c(c, stream), device_e(e, stream),
      device_f(f, stream), device_factor(factor, stream);
  const float threshold = 0.7f;
  select_by_gate(stream.get(), rows, device_gate.data(), device_c.data(), device_factor.data(), threshold, selection);
  expect_selected(selection, stream, rows, [&](int row, int n) {
    return std::fabs(gate[size_t(row * kNeurons + n)] - c[size_t(n)]) * factor[size_t(n)] > threshold;
  });
  select_by_residual(stream.get(), rows, device_up.data(), device_gate.data(), Activation::relu,
                     {device_c.data(), device_e.data(), device_f.data()}, device_factor.data(), threshold, selection);
  expect_selected(selection, stream, rows, [&](int row, int n) {
    const size_t at = size_t(row * kNeurons + n), i = size_t(n);
    const float line = e[i] * gate[at] + f[i];
    const float missed = (std::max(gate[at], 0.0f) - c[i]) * up[at] - line;
    return std::fabs(missed) * factor[i] > threshold;
  });
}

TEST(DeviceSelection, ByMagnitudeHoldsNaNsToo) {
  const Stream stream;
  const DeviceSelection selection(kBins, stream);
  for (const int rows : {1, 16}) {
    std::vector<float> values = random_floats(size_t(rows * kNeurons), 1);
    values[8] = NAN;
    const DeviceArray<float> device(values, stream);
    for (const float threshold : {-1.0f, 0.7f}) {
      select_by_magnitude(stream.get(), rows, device.data(), threshold, selection);
      expect_selected(selection, stream, rows,
                      [&](int row, int n) { return !(std::fabs(values[size_t(row * kNeurons + n)]) <= threshold); });
    }
  }
}

TEST(DeviceSelection, OfKnownNeuronsGivesWhatTheirLinesMiss) {
  const Stream stream;
  const DeviceSelection selection(kBins, stream);
  const int rows = 3;
  const size_t all = size_t(rows * kNeurons);
  const std::vector<float> up = random_floats(all, 1), gate = random_floats(all, 2), c = random_floats(kNeurons, 3),
                           e = random_floats(kNeurons, 4), f = random_floats(kNeurons, 5), none(all, 99.0f);
  const DeviceArray<float> device_up(up, stream), device_gate(gate, stream), device_c(c, stream), device_e(e, stream),
      device_f(f, stream);
  const float threshold = 0.4f;
  for (const bool gated : {false, true}) {
    const auto value = [&](size_t at) { return gated ? std::max(gate[at], 0.0f) * up[at] : std::max(up[at], 0.0f); };
    const DeviceArray<float> residuals(none, stream);
    select_known(stream.get(), rows, device_up.data(), gated ? device_gate.data() : nullptr, Activation::relu,
                 {device_c.data(), gated ? device_e.data() : nullptr, device_f.data()}, threshold, selection,
                 residuals.data());
    expect_selected(selection, stream, rows,
                    [&](int row, int n) { return std::fabs(value(size_t(row * kNeurons + n))) > threshold; });
    const std::vector<float> got = residuals.to_host(stream);
    for (size_t at = 0; at < all; ++at) {
      const size_t n = at % kNeurons;
      const double line = double(c[n]) * up[at] + (gated ? double(e[n]) * gate[at] : 0) + f[n];
      if (std::fabs(value(at)) > threshold)
        ASSERT_NEAR(got[at], value(at) - line, 1e-5) << at;
      else
        ASSERT_EQ(got[at], 99.0f) << at;
    }
  }
}

TEST(DeviceSelection, HoldsWhatTheRowsSlotsChose) {
  const Stream stream;
  const DeviceSelection selection(kBins, stream);
  std::vector<uint8_t> chosen(size_t(2 * kNeurons));
  for (size_t i = 0; i < chosen.size(); ++i) chosen[i] = i * 2654435761u >> 13 & 1;
  const std::vector<int32_t> slots = {1, 0, 1};
  const DeviceArray<uint8_t> device_chosen(chosen, stream);
  const DeviceArray<int32_t> device_slots(slots, stream);
  select_chosen(stream.get(), 3, device_slots.data(), device_chosen.data(), selection);
  expect_selected(selection, stream, 3,
                  [&](int row, int n) { return chosen[size_t(slots[size_t(row)] * kNeurons + n)] != 0; });
  EXPECT_GT(selection.selected(stream), 0);
}

}  // namespace
}  // namespace pleat::cuda
