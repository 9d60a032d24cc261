#pragma once
// What attention's kernels agree on: what a row sees, how its positions are cut into splits and how these are added,
// which query heads read which kv head, what they ask of their arguments and how they read a cache. Included by .cu
// files only.
#include <algorithm>
#include <span>

#include "device_language.h"
#include "kernels/check.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_tile.h"

namespace pleat::cuda {

constexpr int kSplitTokens = kSplitPages * kPageTokens;
constexpr int kHeadsAtOnce = 4;  // query heads that a thread takes where there are several

// What a row sees: positions [begin, end), and the sequence's splits that hold any of them.
struct Seen {
  int begin, end;
  __device__ int first_split() const { return begin / kSplitTokens; }
  __device__ int splits() const { return (end - 1) / kSplitTokens + 1 - first_split(); }
};
__device__ inline Seen seen_from(int position, int64_t window) {
  return {window > 0 && position >= window ? int(position - window) + 1 : 0, position + 1};
}

// The highest score of splits taken in one after the other, and the sum of exp(score - highest).
struct SplitSums {
  float highest = -INFINITY, total = 0;

  // Takes in a split. The sums of values so far are to be multiplied with `before`, the split's with `split`.
  struct Factors {
    float before, split;
    __device__ float sum(float so_far, float of_split) const { return so_far * before + of_split * split; }
  };
  __device__ Factors add(float split_highest, float split_total) {
    const float now = fmaxf(highest, split_highest);
    const Factors factors{__expf(highest - now), __expf(split_highest - now)};
    total = factors.sum(total, split_total);
    highest = now;
    return factors;
  }
};

// kv head g is read by query heads [begin[g], begin[g + 1]).
struct HeadGroups {
  static constexpr int kMaxKvHeads = 256;
  uint16_t begin[kMaxKvHeads + 1];
  int largest;

  HeadGroups(std::span<const int> kv_of_head, int kv_heads) : begin{}, largest(0) {
    PLEAT_ASSERT(kv_heads <= kMaxKvHeads && kv_of_head.size() <= UINT16_MAX, kv_heads, " kv heads");
    PLEAT_ASSERT(std::is_sorted(kv_of_head.begin(), kv_of_head.end()));
    for (int head = 0; head <= kv_heads; ++head)
      begin[head] = uint16_t(std::lower_bound(kv_of_head.begin(), kv_of_head.end(), head) - kv_of_head.begin());
    for (int head = 0; head < kv_heads; ++head) largest = std::max(largest, begin[head + 1] - begin[head]);
  }
  __device__ int first(int kv_head) const { return begin[kv_head]; }
  __device__ int count(int kv_head) const { return begin[kv_head + 1] - begin[kv_head]; }
};

// Rounded up to what threads take at once.
inline int padded_heads(int heads) { return (heads + kHeadsAtOnce - 1) / kHeadsAtOnce * kHeadsAtOnce; }

inline void check_attention(MatrixView<const float> q, const PagedRows& rows, const KvCache& cache,
                            std::span<const int> kv_of_head, MatrixView<float> out) {
  PLEAT_ASSERT(q.rows == rows.count && out.rows == rows.count, q.rows, " queries, ", out.rows, " outputs, ", rows.count,
               " rows");
  PLEAT_ASSERT(q.cols == std::ssize(kv_of_head) * cache.head_size && out.cols == q.cols, q.cols, " columns for ",
               kv_of_head.size(), " heads of ", cache.head_size);
}

// use(element, run) with an element of the cache's type, and how many neighbouring numbers are sure to be one token's.
template <class Use>
void with_reads_of(const KvCache& cache, Use use) {
  with_element(cache.dtype, [&](auto element) {
    if (cache.head_size % kQuad == 0)
      use(element, std::integral_constant<int, kQuad>());
    else
      use(element, std::integral_constant<int, 1>());
  });
}

}  // namespace pleat::cuda
