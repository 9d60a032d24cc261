#pragma once
// A warp's work on one page: a few query heads of one row, and their kv head's keys and values. kLanes neighbouring
// lanes share a token, kLaneChannels neighbouring channels each, so the warp looks at kWarp / kLanes tokens at a time.
// In which order it adds follows from the head size and the page's tokens alone. Included by .cu files only.
#include <type_traits>

#include "kernels/cuda/attention_rows.h"

namespace pleat::cuda {

constexpr int kLaneChannels = 8;

// Neighbouring channels of a token, as they are stored.
template <class Element>
struct alignas(sizeof(Element) == 1 ? 8 : 16) LaneNumbers {
  static constexpr int kInWord = 4 / int(sizeof(Element));
  unsigned words[kLaneChannels / kInWord];

  __device__ static LaneNumbers load(const unsigned char* from) { return *reinterpret_cast<const LaneNumbers*>(from); }
  // The first `count`, wherever they begin; the others are 0.
  __device__ static LaneNumbers load_some(const unsigned char* from, int count) {
    using Bits =
        std::conditional_t<sizeof(Element) == 4, uint32_t, std::conditional_t<sizeof(Element) == 2, uint16_t, uint8_t>>;
    LaneNumbers out{};
#pragma unroll
    for (int i = 0; i < kLaneChannels; ++i)
      if (i < count)
        out.words[i / kInWord] |= unsigned(reinterpret_cast<const Bits*>(from)[i]) << 32 / kInWord * (i % kInWord);
    return out;
  }
  __device__ float at(int i) const {
    const unsigned word = words[i / kInWord];
    if constexpr (sizeof(Element) == 4) return __uint_as_float(word);
    if constexpr (sizeof(Element) == 2) return __uint_as_float(word >> 16 * (i % 2) << 16);
    if constexpr (sizeof(Element) == 1) return float(int8_t(word >> 8 * (i % 4)));
  }
};

// Adds up each of values[0 .. kCount - 1] over 2 kWith neighbouring lanes, all in the same order. A lane is left with
// its share of the sums, at the beginning of `values`; returns which the first of them is.
template <int kWith, int kCount, int kAll>
__device__ int share_sums(float (&values)[kAll]) {
  if constexpr (kWith == 0) {
    return 0;
  } else if constexpr (kCount == 1) {
    values[0] += __shfl_xor_sync(~0u, values[0], kWith);
    return share_sums<kWith / 2, 1>(values);
  } else {
    constexpr int kHalf = kCount / 2;
    const bool upper = (int(threadIdx.x) & kWith) != 0;
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const float mine = upper ? values[kHalf + i] : values[i], others = upper ? values[i] : values[kHalf + i];
      values[i] = mine + __shfl_xor_sync(~0u, others, kWith);
    }
    return (upper ? kHalf : 0) + share_sums<kWith / 2, kHalf>(values);
  }
}

// What a cache's pages have in common.
struct PageShape {
  const unsigned char *keys, *values;
  int head_size, scale_bytes;
  bool in_eights;  // kLaneChannels channels are together and aligned, of the queries too
};

struct PageView {
  int64_t block = 0;        // of the page in this kv head, in bytes
  int position = 0;         // of the first token
  TileRange seen = {0, 0};  // tokens; others are not touched
  __device__ bool is_seen() const { return seen.begin < seen.end; }
  __device__ bool sees(int token) const { return token >= seen.begin && token < seen.end; }
};

template <class Element, int kLanes, int kHeads>
struct PageAttention {
  static constexpr int kTokens = kWarp / kLanes, kSteps = kPageTokens / kTokens;
  static constexpr int kMostLoads = sizeof(Element) == 4 ? 4 : 8;
  static constexpr int kLoads = kSteps < kMostLoads ? kSteps : kMostLoads;  // of a lane, under way together
  using Loaded = LaneNumbers<Element>[kLoads];

  // What the kernel is told: how many channels, and shares of a page's sums, the lanes have, and the floats of
  // `weights`.
  static constexpr int kQueryHeads = kHeads, kChannels = kLanes * kLaneChannels, kShares = kTokens;
  static constexpr int kWeights = kPageTokens * kHeads;
  using Keys = Loaded;
  using Values = Loaded;

  PageShape shape;
  float* weights;  // [kPageTokens, kHeads] in shared memory
  float q[kHeads][kLaneChannels] = {}, out[kHeads][kLaneChannels] = {};

  __device__ PageAttention(const PageShape& shape, float* weights) : shape(shape), weights(weights) {}

  __device__ static int lane() { return int(threadIdx.x) % kWarp; }
  __device__ static int token_at(int step) { return step * kTokens + lane() / kLanes; }
  __device__ static int channel() { return lane() % kLanes * kLaneChannels; }
  __device__ int channels() const { return max(0, min(shape.head_size - channel(), kLaneChannels)); }

  // Those of steps [first, first + kLoads) of the page, keys or values.
  __device__ void load(const unsigned char* cached, const PageView& page, int first, Loaded& loaded) const {
    const auto from = [&](int token) {
      return cached + page.block + shape.scale_bytes + (token * shape.head_size + channel()) * int(sizeof(Element));
    };
    const int count = channels();
    if (shape.in_eights) {
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const int token = token_at(first + i);
        loaded[i] = count > 0 && page.sees(token) ? LaneNumbers<Element>::load(from(token)) : LaneNumbers<Element>{};
      }
    } else {
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const int token = token_at(first + i);
        loaded[i] = LaneNumbers<Element>::load_some(from(token), page.sees(token) ? count : 0);
      }
    }
  }

  // The first of a page.
  __device__ void load_keys(const PageView& page, Keys& keys) const { load(shape.keys, page, 0, keys); }
  __device__ void load_values(const PageView& page, Values& values) const { load(shape.values, page, 0, values); }

  // Of a row's `heads` query heads, times the scale.
  __device__ void load_queries(const float* of_heads, int heads, float scale) {
#pragma unroll
    for (int head = 0; head < kHeads; ++head) {
      if (head >= heads) break;
      const float* const from = of_heads + head * shape.head_size + channel();
      if (shape.in_eights && channels() > 0) {
        const auto low = Floats<4>::load(from), high = Floats<4>::load(from + 4);
#pragma unroll
        for (int i = 0; i < 4; ++i) q[head][i] = low.at[i] * scale, q[head][4 + i] = high.at[i] * scale;
      } else {
#pragma unroll
        for (int i = 0; i < kLaneChannels; ++i)
          if (i < channels()) q[head][i] = from[i] * scale;
      }
    }
  }

  __device__ void clear() {
#pragma unroll
    for (int head = 0; head < kHeads; ++head)
#pragma unroll
      for (int c = 0; c < kLaneChannels; ++c) out[head][c] = 0;
  }

  // `out` to [kShares, kHeads, kChannels].
  __device__ void store(float* to) const {
#pragma unroll
    for (int head = 0; head < kHeads; ++head)
#pragma unroll
      for (int c = 0; c < kLaneChannels; c += kQuad) {
        const float* const from = &out[head][c];
        Quad{{from[0], from[1], from[2], from[3]}}.store(to + (lane() / kLanes * kHeads + head) * kChannels +
                                                         channel() + c);
      }
  }

  // Products of queries and keys become weights[token, head].
  __device__ void multiply_keys(const Loaded& keys, int first) const {
    float products[kLoads * kHeads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i)
#pragma unroll
      for (int head = 0; head < kHeads; ++head) {
        float& product = products[i * kHeads + head];
        product = 0;
#pragma unroll
        for (int c = 0; c < kLaneChannels; ++c) product = fmaf(q[head][c], keys[i].at(c), product);
      }
    constexpr int kAll = kLoads * kHeads, kShare = kAll > kLanes ? kAll / kLanes : 1;
    constexpr int kHolders = kAll < kLanes ? kLanes / kAll : 1;  // lanes with the same share
    const int mine = share_sums<kLanes / 2, kAll>(products);
    if (lane() % kHolders != 0) return;
#pragma unroll
    for (int i = 0; i < kShare; ++i) {
      const int step = (mine + i) / kHeads, head = (mine + i) % kHeads;
      weights[token_at(first + step) * kHeads + head] = products[i];
    }
  }

  // Products become weights exp(score - highest); highest and total [kHeads] of each head.
  __device__ void weigh(const PageView& page, const AttentionScores& rule, int q_head, int heads, float* highest,
                        float* total) const {
    const int token = lane() % kPageTokens;
    const auto scale_in = [&](const unsigned char* cached) {
      return sizeof(Element) == 1 && page.sees(token) ? reinterpret_cast<const float*>(cached + page.block)[token]
                                                      : 1.0f;
    };
    const float key_scale = scale_in(shape.keys), value_scale = scale_in(shape.values);
#pragma unroll
    for (int first = 0; first < kHeads; first += kWarp / kPageTokens) {
      const int head = first + lane() / kPageTokens;
      const bool counts = page.sees(token) && head < heads;
      float* const weight = weights + token * kHeads + head;
      const float score =
          counts ? score_of(*weight * key_scale, rule, q_head + head, page.position + token) : -INFINITY;
      float most = score;
#pragma unroll
      for (int with = kPageTokens / 2; with > 0; with /= 2) most = fmaxf(most, __shfl_xor_sync(~0u, most, with));
      const float mine = counts ? __expf(score - most) : 0.0f;
      float sum = mine;
#pragma unroll
      for (int with = kPageTokens / 2; with > 0; with /= 2) sum += __shfl_xor_sync(~0u, sum, with);
      if (head >= kHeads) continue;
      *weight = mine * value_scale;
      if (token == 0) highest[head] = most, total[head] = sum;
    }
  }

  __device__ void add_values(const Loaded& values, int first) {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const auto weight = Floats<kHeads>::load(weights + token_at(first + i) * kHeads);
#pragma unroll
      for (int head = 0; head < kHeads; ++head)
#pragma unroll
        for (int c = 0; c < kLaneChannels; ++c) out[head][c] = fmaf(weight.at[head], values[i].at(c), out[head][c]);
    }
  }

  // Of a page whose first keys are loaded: weights, highest and total.
  __device__ void find_weights(const PageView& page, Loaded& keys, const AttentionScores& rule, int q_head, int heads,
                               float* highest, float* total) const {
#pragma unroll
    for (int first = 0; first < kSteps; first += kLoads) {
      if (first > 0) load(shape.keys, page, first, keys);
      multiply_keys(keys, first);
    }
    __syncwarp();
    weigh(page, rule, q_head, heads, highest, total);
    __syncwarp();
  }

  // Of a page whose weights are found and first values loaded: `out` becomes the lane's share, that of its tokens, of
  // the sums of exp(score - highest) value.
  __device__ void add_up_values(const PageView& page, Loaded& values) {
#pragma unroll
    for (int first = 0; first < kSteps; first += kLoads) {
      if (first > 0) load(shape.values, page, first, values);
      add_values(values, first);
    }
  }
};

}  // namespace pleat::cuda
