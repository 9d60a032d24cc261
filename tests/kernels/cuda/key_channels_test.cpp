#include "kernels/cuda/key_channels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "../vectors.h"
#include "kernels/attention.h"

namespace pleat::cuda {
namespace {

// A cache of four pages on the host, filled by the CPU's append_kv(), and its copy.
struct CutCache {
  static constexpr int kHeads = 2, kHeadSize = 20, kTokens = 53;
  Context cpu{1, false};
  KvCache host, device;
  std::vector<std::byte> keys, values;
  std::vector<int32_t> page_table{2, 0, 3, 1};
  DeviceArray<std::byte> device_keys;

  CutCache(DType dtype, const Stream& stream) {
    host.dtype = dtype;
    host.pages = 4;
    host.kv_heads = kHeads;
    host.head_size = kHeadSize;
    keys.resize(size_t(host.block(host.pages, 0)));
    values.resize(keys.size());
    host.keys = keys.data();
    host.values = values.data();
    std::vector<AttentionRow> rows;
    for (int token = 0; token < kTokens; ++token) rows.push_back({token, page_table.data()});
    const std::vector<float> k = random_floats(size_t(kTokens * kHeads * kHeadSize), 3);
    const MatrixView<const float> view(k.data(), kTokens, kHeads * kHeadSize);
    append_kv(cpu, view, view, rows, host);
    device_keys = {std::span<const std::byte>(keys), stream};
    device = host;
    device.keys = device.values = device_keys.data();
  }
};

constexpr DType kTypes[] = {DType::f32, DType::bf16, DType::i8};

TEST(DeviceKeyChannels, EnergiesAreTheCpusBitForBit) {
  const Stream stream;
  for (const DType dtype : kTypes)
    for (const int tokens : {1, 16, CutCache::kTokens}) {
      CutCache cache(dtype, stream);
      std::vector<double> expected(size_t(CutCache::kHeads * CutCache::kHeadSize));
      pleat::key_energies(cache.cpu, cache.host, cache.page_table.data(), tokens, expected);
      const DeviceArray<int32_t> table(cache.page_table, stream);
      const DeviceArray<double> out(expected.size());
      key_energies(stream.get(), cache.device, table.data(), tokens, out.data());
      EXPECT_EQ(out.to_host(stream), expected) << name_of(dtype) << ", " << tokens << " tokens";
    }
}

TEST(DeviceKeyChannels, WhatIsDroppedIsZeroAndNothingElseChanges) {
  const Stream stream;
  constexpr int kKept = 7;
  const std::vector<int32_t> pages = {3, 2}, slots = {1, 0};
  std::vector<int32_t> kept;  // [slots][heads][kept]
  for (int head = 0; head < 2 * CutCache::kHeads; ++head)
    for (int i = 0; i < kKept; ++i) kept.push_back(head % 3 + i * 2);
  for (const DType dtype : kTypes) {
    const CutCache cache(dtype, stream);
    const DeviceArray<int32_t> device_pages(pages, stream), device_slots(slots, stream), device_kept(kept, stream);
    drop_channels(stream.get(), cache.device, {2, device_pages.data(), device_slots.data()}, device_kept.data(), kKept);
    std::vector<std::byte> expected = cache.keys;
    for (size_t i = 0; i < pages.size(); ++i)
      for (int head = 0; head < CutCache::kHeads; ++head)
        for (int channel = 0; channel < CutCache::kHeadSize; ++channel) {
          const int32_t* const mine = &kept[size_t((slots[i] * CutCache::kHeads + head) * kKept)];
          if (std::count(mine, mine + kKept, channel) > 0) continue;
          for (int token = 0; token < kPageTokens; ++token) {
            const int64_t number = token * CutCache::kHeadSize + channel, size = int64_t(size_of(dtype));
            std::memset(&expected[size_t(cache.host.block(pages[i], head) + cache.host.scale_bytes() + number * size)],
                        0, size_t(size));
          }
        }
    EXPECT_EQ(cache.device_keys.to_host(stream), expected) << name_of(dtype);
  }
}

// Two sequences of which the second is no prompt's any more; a page's sums begin anew, and pages take turns.
TEST(DeviceKeyChannels, QuerySquaresAreSummedByPage) {
  const Stream stream;
  constexpr int kWidth = 40, kPages = 2, kRows = 24;
  std::vector<int32_t> positions, slots, observed;
  for (int row = 0; row < kRows; ++row) {
    positions.push_back(row < 20 ? 25 + row : row);
    slots.push_back(row < 20 ? 1 : 0);
    observed.push_back(row < 20);
  }
  const std::vector<float> q = random_floats(size_t(kRows * kWidth), 5);
  std::vector<float> expected = random_floats(size_t(2 * kPages * kWidth), 6);
  const DeviceArray<float> device_q(q, stream), sums(expected, stream);
  const DeviceArray<int32_t> p(positions, stream), s(slots, stream), o(observed, stream);
  add_query_squares(stream.get(), {device_q.data(), kRows, kWidth}, {p.data(), s.data(), o.data()}, kPages,
                    sums.data());
  for (int row = 0; row < 20; ++row)
    for (int i = 0; i < kWidth; ++i) {
      float& sum = expected[size_t((kPages + (25 + row) / kPageTokens % kPages) * kWidth + i)];
      if ((25 + row) % kPageTokens == 0) sum = 0;
      sum += q[size_t(row * kWidth + i)] * q[size_t(row * kWidth + i)];
    }
  EXPECT_TRUE(same_bits(sums.to_host(stream), expected));
}

}  // namespace
}  // namespace pleat::cuda
