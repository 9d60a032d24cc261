#pragma once
// What tests of paged kernels share: sequences whose pages lie mixed in one cache, on the host and on a device.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/cuda/paged_rows.h"
#include "kernels/kv_cache.h"

namespace pleat::cuda {

struct Token {
  int sequence;
  int position;  // -1: nobody is in this row
};

inline std::vector<int32_t> positions_of(const std::vector<Token>& tokens) {
  std::vector<int32_t> positions;
  for (const Token& token : tokens) positions.push_back(token.position);
  return positions;
}
inline std::vector<int32_t> sequences_of(const std::vector<Token>& tokens) {
  std::vector<int32_t> sequences;
  for (const Token& token : tokens) sequences.push_back(token.sequence);
  return sequences;
}

struct PagedSequences {
  PagedSequences(int sequences, int positions, int kv_heads, int head_size, DType dtype)
      : sequences(sequences),
        table_pages((positions + kPageTokens - 1) / kPageTokens),
        page_tables(size_t(sequences * table_pages)) {
    cache = {nullptr, nullptr, dtype, sequences * table_pages + 1, kv_heads, head_size};
    keys.assign(size_t(cache.pages * cache.kv_heads * cache.block_bytes()), std::byte(0xff));  // NaN of f32 and bf16
    values = keys;
    cache.keys = keys.data();
    cache.values = values.data();
    std::iota(page_tables.begin(), page_tables.end(), 1);
    std::shuffle(page_tables.begin(), page_tables.end(), std::mt19937(5));
  }
  PagedSequences(const PagedSequences&) = delete;

  AttentionRow row(Token token) const { return {token.position, page_tables.data() + token.sequence * table_pages}; }

  int sequences, table_pages;
  std::vector<int32_t> page_tables;  // [sequences, table_pages]
  std::vector<std::byte> keys, values;
  KvCache cache;
};

struct DeviceCache {
  DeviceCache(const PagedSequences& host, const Stream& stream)
      : keys(host.keys, stream), values(host.values, stream), cache(host.cache) {
    cache.keys = keys.data();
    cache.values = values.data();
  }
  DeviceArray<std::byte> keys, values;
  KvCache cache;
};

struct SequenceRows {
  SequenceRows(const PagedSequences& host, const std::vector<Token>& tokens, const Stream& stream)
      : positions(positions_of(tokens), stream),
        page_table_of(sequences_of(tokens), stream),
        page_tables(host.page_tables, stream),
        table_pages(host.table_pages) {}

  // As many tokens as before.
  void set(const std::vector<Token>& tokens, const Stream& stream) {
    const std::vector<int32_t> new_positions = positions_of(tokens), new_tables = sequences_of(tokens);
    positions.copy_from(new_positions, stream);
    page_table_of.copy_from(new_tables, stream);
    stream.wait();
  }
  PagedRows rows() const {
    return {int(positions.size()), positions.data(), page_table_of.data(), page_tables.data(), table_pages};
  }

  DeviceArray<int32_t> positions, page_table_of, page_tables;
  int table_pages;
};

}  // namespace pleat::cuda
