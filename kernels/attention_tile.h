#pragma once
// Attention of a prompt's rows, which lie in the lanes of a tile: a block's numbers are widened once for all of them,
// and softmax needs no exchange between lanes. Each row's additions are those of attend_block(), in their order.
#include "kernels/attention_block.h"

namespace pleat {

// A block's keys and values in f32.
struct WideBlock {
  float* keys;    // [kPageTokens][stride], the first `channels` of each
  float* values;  // [kPageTokens][stride], zeros after head_size
  int64_t stride;
};

// Online softmax of `rows` rows, a lane each; those after `count` repeat the last one. See AttentionState.
template <class Lanes>
struct AttentionTile {
  using F = typename Lanes::F;
  static constexpr int vectors = Lanes::kManyRegisters ? 2 : 1;
  static constexpr int rows = 16 * vectors;
  static constexpr int together = Lanes::kManyRegisters ? 8 : 4;  // keys, or rows, whose sums registers hold

  const float* q;       // [head_size][rows], scaled
  const float* kept_q;  // [kept_channels][rows]
  float* out;           // [rows][stride]
  int count;
  int64_t begin[rows], end[rows];             // the positions that each row sees
  F first_seen[vectors], last_seen[vectors];  // the same, as begin and end - 1
  F highest[vectors], total[vectors];

  // All positions of the block that begins at `first`.
  bool sees_all(int row, int64_t first) const { return begin[row] <= first && first + kPageTokens <= end[row]; }
};

// sums [n][vectors]: q k of the tile's rows with n keys. Channels are added in sixteen sums, which are added as
// Lanes::sum() does: this is those of the channels that are `lane` modulo `step`.
template <class Lanes, int n, int vectors, int step = 1>
[[gnu::always_inline]] inline void key_products(const float* q, const float* keys, int64_t stride, int64_t channels,
                                                int64_t lane, typename Lanes::F (*to)[vectors]) {
  using F = typename Lanes::F;
  F sums[n][vectors];
  if constexpr (step == 16) {
    for (int k = 0; k < n; ++k)
      for (int v = 0; v < vectors; ++v) sums[k][v] = Lanes::set1(0.0f);
    for (int64_t channel = lane; channel < channels; channel += 16) {
      F part[vectors];
      for (int v = 0; v < vectors; ++v) part[v] = Lanes::load(q + 16 * (vectors * channel + v));
      for (int k = 0; k < n; ++k) {
        const F key = Lanes::set1(keys[k * stride + channel]);
        for (int v = 0; v < vectors; ++v) sums[k][v] = Lanes::fma(part[v], key, sums[k][v]);
      }
    }
  } else {
    key_products<Lanes, n, vectors, 2 * step>(q, keys, stride, channels, lane, to);
    key_products<Lanes, n, vectors, 2 * step>(q, keys, stride, channels, lane + step, sums);
    for (int k = 0; k < n; ++k)
      for (int v = 0; v < vectors; ++v) sums[k][v] = Lanes::add(to[k][v], sums[k][v]);
  }
  for (int k = 0; k < n; ++k)
    for (int v = 0; v < vectors; ++v) to[k][v] = sums[k][v];
}

// out = out * shrink + the values of positions [begin, end), weighted, for n rows and channels from `from` on, so many
// vectors at a time as long as there are so many. Returns the first channel left.
template <class Lanes, int n, int vectors>
[[gnu::always_inline]] inline int64_t add_values(const WideBlock& wide, int64_t begin, int64_t end, int64_t from,
                                                 int64_t width, const float* weights, const float* shrink, float* out) {
  using F = typename Lanes::F;
  for (; from + 16 * (vectors - 1) < width; from += 16 * vectors) {
    F sums[n][vectors];
    for (int r = 0; r < n; ++r)
      for (int v = 0; v < vectors; ++v)
        sums[r][v] = Lanes::mul(Lanes::load(out + r * wide.stride + from + 16 * v), Lanes::set1(shrink[r]));
    for (int64_t p = begin; p < end; ++p) {
      F value[vectors];
      for (int v = 0; v < vectors; ++v) value[v] = Lanes::load(wide.values + p * wide.stride + from + 16 * v);
      for (int r = 0; r < n; ++r) {
        const F weight = Lanes::set1(weights[p * AttentionTile<Lanes>::rows + r]);
        for (int v = 0; v < vectors; ++v) sums[r][v] = Lanes::fma(weight, value[v], sums[r][v]);
      }
    }
    for (int r = 0; r < n; ++r)
      for (int v = 0; v < vectors; ++v) Lanes::store(out + r * wide.stride + from + 16 * v, sums[r][v]);
  }
  return from;
}

template <class Lanes, class Element>
void attend_tile(const CachedBlock<Lanes, Element>& cached, const WideBlock& wide, int64_t first, int64_t width,
                 const AttentionScores& rule, int q_head, AttentionTile<Lanes>& tile) {
  using F = typename Lanes::F;
  using Tile = AttentionTile<Lanes>;
  constexpr int vectors = Tile::vectors, together = Tile::together;
  bool all = true;
  for (int r = 0; r < Tile::rows; ++r) all = all && tile.sees_all(r, first);

  const bool plain = rule.soft_cap == 0 && rule.slopes == nullptr;
  const F hidden = Lanes::set1(-__builtin_inff());
  F weights[kPageTokens][vectors], now[vectors];
  for (int v = 0; v < vectors; ++v) now[v] = tile.highest[v];
  for (int p = 0; p < kPageTokens; p += together) {
    key_products<Lanes, together, vectors>(cached.compacted ? tile.kept_q : tile.q, wide.keys + p * wide.stride,
                                           wide.stride, cached.channels, 0, weights + p);
    for (int k = p; k < p + together; ++k) {
      const F position = Lanes::set1(float(first + k));
      for (int v = 0; v < vectors; ++v) {
        F score = weights[k][v];
        if constexpr (sizeof(Element) == 1) score = Lanes::mul(score, Lanes::set1(cached.key_scales[k]));
        if (!plain) score = attention_scores<Lanes>(score, position, rule, q_head);
        if (!all) {
          score = Lanes::select_less(position, tile.first_seen[v], hidden, score);
          score = Lanes::select_less(tile.last_seen[v], position, hidden, score);
        }
        weights[k][v] = score;
        now[v] = Lanes::max(score, now[v]);
      }
    }
  }

  alignas(64) float weight[kPageTokens][Tile::rows], shrink[Tile::rows];
  for (int v = 0; v < vectors; ++v) {
    // Of a row that has seen nothing yet the highest is -infinity, from which nothing can be taken.
    const F base = Lanes::select_less(now[v], Lanes::set1(-__FLT_MAX__), Lanes::set1(0.0f), now[v]);
    const F factor = exp<Lanes>(Lanes::sub(tile.highest[v], base));
    F sums[kPageTokens];
    for (int k = 0; k < kPageTokens; ++k) {
      sums[k] = exp<Lanes>(Lanes::sub(weights[k][v], base));
      F scaled = sums[k];
      if constexpr (sizeof(Element) == 1) scaled = Lanes::mul(scaled, Lanes::set1(cached.value_scales[k]));
      Lanes::store(weight[k] + 16 * v, scaled);
    }
    for (int half = kPageTokens / 2; half > 0; half /= 2)
      for (int k = 0; k < half; ++k) sums[k] = Lanes::add(sums[k], sums[k + half]);
    tile.total[v] = Lanes::add(Lanes::mul(tile.total[v], factor), sums[0]);
    tile.highest[v] = now[v];
    Lanes::store(shrink + 16 * v, factor);
  }

  for (int r = 0; r < tile.count;) {
    float* const out = tile.out + r * wide.stride;
    bool whole = r + together <= tile.count;
    for (int k = r; whole && k < r + together; ++k) whole = tile.sees_all(k, first);
    if (whole) {
      const int64_t left =
          add_values<Lanes, together, vectors>(wide, 0, kPageTokens, 0, width, weight[0] + r, shrink + r, out);
      add_values<Lanes, together, 1>(wide, 0, kPageTokens, left, width, weight[0] + r, shrink + r, out);
      r += together;
    } else {
      const int64_t begin = tile.begin[r] > first ? tile.begin[r] - first : 0;
      const int64_t end = tile.end[r] - first < kPageTokens ? tile.end[r] - first : kPageTokens;
      const int64_t left = add_values<Lanes, 1, 4>(wide, begin, end, 0, width, weight[0] + r, shrink + r, out);
      add_values<Lanes, 1, 1>(wide, begin, end, left, width, weight[0] + r, shrink + r, out);
      ++r;
    }
  }
}

// Widens a block and fetches the next one.
template <class Lanes, class Element>
void widen(const CachedBlock<Lanes, Element>& cached, int64_t width, const WideBlock& wide) {
  const auto row = [&](const Element* from, int64_t numbers, const char* next, float* to) {
    for (int64_t i = 0; i < numbers; i += 16) {
      Lanes::store(to + i, numbers - i < 16 ? Lanes::load_part(from + i, numbers - i) : Lanes::load(from + i));
      Lanes::prefetch(next + i * int64_t(sizeof(Element)));
    }
  };
  for (int64_t p = 0; p < kPageTokens; ++p) {
    const int64_t key = p * cached.channels, value = p * width;
    row(cached.keys + key, cached.channels, cached.next_keys + key * int64_t(sizeof(Element)),
        wide.keys + p * wide.stride);
    row(cached.values + value, width, cached.next_values + value * int64_t(sizeof(Element)),
        wide.values + p * wide.stride);
  }
}

// The task's rows from `row` on; q, kept_q and out are the tile's.
template <class Lanes>
void start_tile(const AttentionTask& task, int row, float* q, float* kept_q, float* out, AttentionTile<Lanes>& tile) {
  using Tile = AttentionTile<Lanes>;
  const KvCache& cache = *task.cache;
  const int64_t size = attention_padding(cache.head_size) * Tile::rows;
  tile.q = q, tile.kept_q = kept_q, tile.out = out;
  tile.count = task.count - row < Tile::rows ? task.count - row : Tile::rows;
  alignas(64) float first[Tile::rows], last[Tile::rows];
  for (int r = 0; r < Tile::rows; ++r) {
    const int here = row + (r < tile.count ? r : tile.count - 1);
    const SeenPositions<Lanes> seen(task, here);
    tile.begin[r] = seen.begin, tile.end[r] = seen.end;
    first[r] = float(seen.begin), last[r] = float(seen.end - 1);
    const float* const from = task.q + here * task.q_stride;
    for (int64_t c = 0; c < cache.head_size; ++c) q[Tile::rows * c + r] = from[c] * task.scores->scale;
  }
  for (int v = 0; v < Tile::vectors; ++v) {
    tile.first_seen[v] = Lanes::load(first + 16 * v), tile.last_seen[v] = Lanes::load(last + 16 * v);
    tile.highest[v] = Lanes::set1(-__builtin_inff()), tile.total[v] = Lanes::set1(0.0f);
  }
  for (int64_t i = 0; i < size; i += 16) Lanes::store(out + i, Lanes::set1(0.0f));
  if (task.rows[0].whole_begin == 0) return;
  const int32_t* const kept = kept_channels<Lanes>(task);
  for (int64_t c = 0; c < cache.kept_channels; ++c)
    for (int v = 0; v < Tile::vectors; ++v)
      Lanes::store(kept_q + Tile::rows * c + 16 * v, Lanes::load(q + int64_t(Tile::rows) * kept[c] + 16 * v));
}

template <class Lanes, class Element>
void attend_tiles(const AttentionTask& task) {
  using Tile = AttentionTile<Lanes>;
  constexpr int most = kAttentionRows / Tile::rows;
  const int64_t width = task.cache->head_size, padded = attention_padding(width);
  const WideBlock wide = {task.work, task.work + kPageTokens * padded, padded};
  float* work = task.work + 2 * kPageTokens * padded;
  const int64_t size = Tile::rows * padded;
  Tile tiles[most];
  const int count = (task.count + Tile::rows - 1) / Tile::rows;
  int64_t begin = 0, end = 0;
  for (int t = 0; t < count; ++t, work += 3 * size) {
    start_tile(task, t * Tile::rows, work, work + size, work + 2 * size, tiles[t]);
    for (int r = 0; r < Tile::rows; ++r) {
      begin = (t == 0 && r == 0) || tiles[t].begin[r] < begin ? tiles[t].begin[r] : begin;
      end = tiles[t].end[r] > end ? tiles[t].end[r] : end;
    }
  }

  for (int64_t first = begin / kPageTokens * kPageTokens; first < end; first += kPageTokens) {
    const CachedBlock<Lanes, Element> cached(task, first, end);
    widen(cached, width, wide);
    for (int t = 0; t < count; ++t) attend_tile(cached, wide, first, width, *task.scores, task.q_head, tiles[t]);
  }

  for (int t = 0; t < count; ++t) {
    alignas(64) float inverse[Tile::rows];
    for (int v = 0; v < Tile::vectors; ++v)
      Lanes::store(inverse + 16 * v, Lanes::div(Lanes::set1(1.0f), tiles[t].total[v]));
    for (int r = 0; r < tiles[t].count; ++r)
      for (int64_t i = 0; i < width; i += 16)
        Lanes::store_part(task.out + (t * Tile::rows + r) * task.out_stride + i,
                          Lanes::mul(Lanes::load(tiles[t].out + r * padded + i), Lanes::set1(inverse[r])),
                          width - i < 16 ? width - i : 16);
  }
}

}  // namespace pleat
