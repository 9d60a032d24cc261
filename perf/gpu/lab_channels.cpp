// Cut keys: what the choice of a head's channels is made of, and the cut itself.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "kernels/cuda/key_channels.h"
#include "lab_matrix.h"

namespace pleat::lab {
namespace {

// A sequence's keys, its pages from the last to the first.
struct Keys {
  Keys(Lab& lab, DType dtype, int kv_heads, int head_size, int tokens) : lab(lab), tokens(tokens) {
    cache = {nullptr, nullptr, dtype, (tokens + kPageTokens - 1) / kPageTokens, kv_heads, head_size};
    page_table.resize(size_t(cache.pages));
    std::iota(page_table.rbegin(), page_table.rend(), 0);
    bytes.resize(size_t(cache.pages * kv_heads * cache.block_bytes()));
    const std::vector<float> values = random_values(bytes.size(), 1, 100);
    size_t at = 0;
    for (int64_t page = 0; page < cache.pages; ++page)
      for (int head = 0; head < kv_heads; ++head)
        for (int token = 0; token < kPageTokens; ++token) {
          if (dtype == DType::i8) store(page, head, token * int64_t(sizeof(float)), 1 + values[at++] / 200);
          for (int channel = 0; channel < head_size; ++channel) {
            const float value = values[at++];
            const int64_t to = byte_of(token, channel);
            if (dtype == DType::i8) store(page, head, to, int8_t(value));
            if (dtype == DType::bf16) store(page, head, to, to_bf16(value));
            if (dtype == DType::f32) store(page, head, to, value);
          }
        }
    device_bytes = {std::span<const std::byte>(bytes), lab.stream()};
    device_page_table = {std::span<const int32_t>(page_table), lab.stream()};
    cache.keys = device_bytes.data();
  }

  int64_t byte_of(int token, int channel) const {
    return cache.scale_bytes() + (int64_t(token) * cache.head_size + channel) * int64_t(size_of(cache.dtype));
  }
  template <class T>
  T load(int64_t page, int head, int64_t byte) const {
    T value;
    std::memcpy(&value, &bytes[size_t(cache.block(page, head) + byte)], sizeof value);
    return value;
  }
  template <class T>
  void store(int64_t page, int head, int64_t byte, T value) {
    std::memcpy(&bytes[size_t(cache.block(page, head) + byte)], &value, sizeof value);
  }
  double value(int position, int head, int channel) const {
    const int64_t page = page_table[size_t(position / kPageTokens)];
    const int token = position % kPageTokens;
    const int64_t at = byte_of(token, channel);
    if (cache.dtype == DType::f32) return load<float>(page, head, at);
    if (cache.dtype == DType::bf16) return to_f32(load<bf16>(page, head, at));
    return double(load<int8_t>(page, head, at)) * load<float>(page, head, token * int64_t(sizeof(float)));
  }
  std::string shape() const {
    return concat(name_of(cache.dtype), " keys, ", tokens, " tokens, ", cache.kv_heads, " heads of ", cache.head_size);
  }

  Lab& lab;
  int tokens;
  KvCache cache;
  std::vector<int32_t> page_table;
  std::vector<std::byte> bytes;
  cuda::DeviceArray<std::byte> device_bytes;
  cuda::DeviceArray<int32_t> device_page_table;
};

void energies(const Keys& keys) {
  const KvCache& cache = keys.cache;
  const cuda::DeviceArray<double> out(size_t(cache.kv_heads * cache.head_size));
  keys.lab.measure({.kernel = "key_energies",
                    .shape = keys.shape(),
                    .bytes = double(keys.bytes.size()) * keys.tokens / double(cache.pages * kPageTokens),
                    .check =
                        [&] {
                          std::vector<Sum> expected;
                          for (int head = 0; head < cache.kv_heads; ++head)
                            for (int channel = 0; channel < cache.head_size; ++channel) {
                              Sum& sum = expected.emplace_back();
                              for (int position = 0; position < keys.tokens; ++position)
                                sum.add(keys.value(position, head, channel), keys.value(position, head, channel));
                            }
                          // A rounding in double is 2^-29 of one in f32.
                          return compare_sums(out.to_host(keys.lab.stream()), expected, keys.tokens * 0x1p-29);
                        },
                    .call =
                        [&](cuda::StreamHandle stream, int) {
                          cuda::key_energies(stream, cache, keys.device_page_table.data(), keys.tokens, out.data());
                        }});
}

// All pages; every other channel is kept, in odd slots the odd ones.
void drop(Keys& keys) {
  const KvCache& cache = keys.cache;
  const int kept_channels = cache.head_size / 2, pages = int(cache.pages);
  std::vector<int32_t> slots, kept;
  for (int page = 0; page < pages; ++page) slots.push_back(page % 2);
  for (int slot = 0; slot < 2; ++slot)
    for (int i = 0; i < cache.kv_heads * kept_channels; ++i) kept.push_back(2 * (i % kept_channels) + slot);
  const cuda::DeviceArray<int32_t> device_slots(slots, keys.lab.stream()), device_kept(kept, keys.lab.stream());
  keys.lab.measure(
      {.kernel = "drop_channels",
       .shape = concat(keys.shape(), ", ", kept_channels, " kept"),
       .bytes = double(pages) * kPageTokens * cache.kv_heads * (cache.head_size - kept_channels) *
                double(size_of(cache.dtype)),
       .check =
           [&] {
             for (int i = 0; i < pages; ++i)
               for (int head = 0; head < cache.kv_heads; ++head)
                 for (int channel = 1 - i % 2; channel < cache.head_size; channel += 2)
                   for (int token = 0; token < kPageTokens; ++token)
                     for (int64_t byte = 0; byte < int64_t(size_of(cache.dtype)); ++byte)
                       keys.store(keys.page_table[size_t(i)], head, keys.byte_of(token, channel) + byte, std::byte{});
             const std::vector<std::byte> got = keys.device_bytes.to_host(keys.lab.stream());
             const auto at = std::mismatch(got.begin(), got.end(), keys.bytes.begin()).first - got.begin();
             return size_t(at) == got.size() ? std::string() : concat("byte ", at, " of the keys is another");
           },
       .call =
           [&](cuda::StreamHandle stream, int) {
             cuda::drop_channels(stream, cache, {pages, keys.device_page_table.data(), device_slots.data()},
                                 device_kept.data(), kept_channels);
           }});
}

// Of a prompt's chunk that begins within a page, and a generated token of another sequence, which is left out.
void query_squares(Lab& lab, int rows, int width) {
  constexpr int kSlots = 2, kPages = 3, kFirst = kPageTokens / 2;
  const std::vector<float> q = random_values(size_t(rows * width), 1),
                           before = random_values(size_t(kSlots * kPages * width), 2);
  std::vector<int32_t> positions(static_cast<size_t>(rows)), slots(positions.size(), 1), observed(positions.size(), 1);
  std::iota(positions.begin(), positions.end(), kFirst);
  slots.back() = observed.back() = 0;
  const cuda::DeviceArray<int32_t> device_positions(positions, lab.stream()), device_slots(slots, lab.stream()),
      device_observed(observed, lab.stream());
  const cuda::DeviceArray<float> device_q(q, lab.stream()), sums(before, lab.stream());
  lab.measure({.kernel = "add_query_squares",
               .shape = concat("[", rows, ", ", width, "]"),
               .bytes = 4.0 * width * (rows - 1 + 2 * kPages),
               .check =
                   [&] {
                     std::vector<Sum> expected(before.size());
                     for (size_t i = 0; i < before.size(); ++i) expected[i].add(1, before[i]);
                     for (int row = 0; row + 1 < rows; ++row)
                       for (int i = 0; i < width; ++i) {
                         const int page = (kFirst + row) / kPageTokens % kPages;
                         Sum& sum = expected[size_t((kPages + page) * width + i)];
                         if ((kFirst + row) % kPageTokens == 0) sum = {};
                         sum.add(q[size_t(row * width + i)], q[size_t(row * width + i)]);
                       }
                     return compare_sums(sums.to_host(lab.stream()), expected, 2 * kPageTokens);
                   },
               .call =
                   [&](cuda::StreamHandle stream, int) {
                     cuda::add_query_squares(stream, {device_q.data(), rows, width},
                                             {device_positions.data(), device_slots.data(), device_observed.data()},
                                             kPages, sums.data());
                   }});
}

}  // namespace

void channels(Lab& lab) {
  query_squares(lab, lab.size(512, 20), lab.size(4096, 40));
  for (const DType dtype : {DType::f32, DType::bf16, DType::i8}) {
    Keys keys(lab, dtype, 8, lab.size(128, 10), lab.size(2048, 41));
    energies(keys);
    drop(keys);
  }
}

}  // namespace pleat::lab
