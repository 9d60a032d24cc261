#pragma once
// The tile kernels, written once over a vector type V that each instruction-set file defines in its anonymous namespace
// (so that no instantiation is shared between files compiled with different flags):
//   Reg, kWidth (floats), kAccumulators (registers left for sums), zero, load, store, broadcast, add, transpose, weave,
//   multiply_add(a, b, sum) = a * b + sum, and for bf16 either even_bf16 and odd_bf16
//   (that input of kWidth pairs, as f32), or with kBf16Pairs add_dot_products (a pair of inputs of every row at once).
#include "kernels/matmul_tile.h"

namespace pleat {

constexpr int64_t kPrefetchBytes = 2048;

// The widest pass (a power of two of vectors) whose sums fit the registers.
template <class V, int kRows, int kPanels>
consteval int pass_vectors() {
  int vectors = kPanels * kPanelOutputs / V::kWidth;
  while (vectors > 1 && vectors * kRows > V::kAccumulators) vectors /= 2;
  return vectors;
}

template <class V, int kRows, int kVectors>
struct Sums {
  typename V::Reg at[kRows][kVectors];

  void clear() {
    for (int m = 0; m < kRows; ++m) {
      for (int j = 0; j < kVectors; ++j) at[m][j] = V::zero();
    }
  }
  void load(const float* from, int64_t stride) {
    for (int m = 0; m < kRows; ++m) {
      for (int j = 0; j < kVectors; ++j) at[m][j] = V::load(from + m * stride + j * V::kWidth);
    }
  }
  void add(const float* from, int64_t stride) {
    for (int m = 0; m < kRows; ++m) {
      for (int j = 0; j < kVectors; ++j) at[m][j] = V::add(at[m][j], V::load(from + m * stride + j * V::kWidth));
    }
  }
  void store(float* to, int64_t stride) const {
    for (int m = 0; m < kRows; ++m) {
      for (int j = 0; j < kVectors; ++j) V::store(to + m * stride + j * V::kWidth, at[m][j]);
    }
  }
};

template <class V, int kVectors, int kBytesPerLane>
inline void prefetch_columns(const std::byte* const (&w)[kVectors], int64_t offset) {
  constexpr int kBytes = V::kWidth * kBytesPerLane;
  constexpr int kEvery = kBytes >= 64 ? 1 : 64 / kBytes;
  for (int j = 0; j < kVectors; j += kEvery) __builtin_prefetch(w[j] + offset + kPrefetchBytes, 0, 3);
}

struct F32Weights {
  static constexpr int kBytesPerLane = 4;
  template <class V, int kRows, int kVectors>
  static void run(const TileJob& job, const std::byte* const (&w)[kVectors], Sums<V, kRows, kVectors>& sums) {
    const float* x = static_cast<const float*>(job.x);
    const float* next = static_cast<const float*>(job.next_x);
    int64_t offset = 0;
    for (int64_t k = 0; k < job.inputs; ++k, x += kRows, next += kRows, offset += 4 * kPanelOutputs) {
      prefetch_columns<V, kVectors, 4>(w, offset);
      __builtin_prefetch(next, 0, 3);
      typename V::Reg weight[kVectors];
      for (int j = 0; j < kVectors; ++j) weight[j] = V::load(reinterpret_cast<const float*>(w[j] + offset));
      for (int m = 0; m < kRows; ++m) {
        const typename V::Reg value = V::broadcast(x[m]);
        for (int j = 0; j < kVectors; ++j) sums.at[m][j] = V::multiply_add(weight[j], value, sums.at[m][j]);
      }
    }
  }
};

struct Bf16Weights {
  static constexpr int kBytesPerLane = 4;  // a pair of inputs
  template <class V, int kRows, int kVectors>
  static void run(const TileJob& job, const std::byte* const (&w)[kVectors], Sums<V, kRows, kVectors>& sums) {
    constexpr int64_t kStep = V::kBf16Pairs ? kRows * 4 : kRows * 8;
    const std::byte* x = static_cast<const std::byte*>(job.x);
    const std::byte* next = static_cast<const std::byte*>(job.next_x);
    int64_t offset = 0;
    for (int64_t pair = 0; pair < job.inputs / 2; ++pair, x += kStep, next += kStep, offset += 4 * kPanelOutputs) {
      prefetch_columns<V, kVectors, 4>(w, offset);
      __builtin_prefetch(next, 0, 3);
      if constexpr (V::kBf16Pairs) {
        V::add_dot_products(x, w, offset, sums.at);
      } else {
        const float* values = reinterpret_cast<const float*>(x);
        add_inputs<V, kRows, kVectors>(values, w, offset, V::even_bf16, sums);
        add_inputs<V, kRows, kVectors>(values + kRows, w, offset, V::odd_bf16, sums);
      }
    }
  }

  // One input of every row; `expand` takes its weights out of the pairs.
  template <class V, int kRows, int kVectors, class Expand>
  static void add_inputs(const float* x, const std::byte* const (&w)[kVectors], int64_t offset, Expand expand,
                         Sums<V, kRows, kVectors>& sums) {
    typename V::Reg weight[kVectors];
    for (int j = 0; j < kVectors; ++j) weight[j] = expand(w[j] + offset);
    for (int m = 0; m < kRows; ++m) {
      const typename V::Reg value = V::broadcast(x[m]);
      for (int j = 0; j < kVectors; ++j) sums.at[m][j] = V::multiply_add(weight[j], value, sums.at[m][j]);
    }
  }
};

// The sums that the next tile goes on from or adds, which follow this one's.
template <int kRows, int kOutputs>
inline void prefetch_sums(const TileJob& job) {
  for (int level = job.go_on ? 0 : 1; level <= job.merges; ++level) {
    const float* sums = job.out - level * job.level + kRows * kOutputs;
    for (int i = 0; i < kRows * kOutputs; i += 16) __builtin_prefetch(sums + i, 0, 3);
  }
}

template <class V, class Format, int kRows, int kPanels>
void tile(const TileJob& job) {
  constexpr int kVectors = pass_vectors<V, kRows, kPanels>();
  constexpr int kOutputs = kPanels * kPanelOutputs;
  prefetch_sums<kRows, kOutputs>(job);
  for (int first = 0; first < kOutputs; first += kVectors * V::kWidth) {
    const std::byte* w[kVectors];
    for (int j = 0; j < kVectors; ++j) {
      const int column = first + j * V::kWidth;
      const int panel = column / kPanelOutputs;
      w[j] = job.weights + panel * job.next_weights + column % kPanelOutputs * Format::kBytesPerLane;
    }
    Sums<V, kRows, kVectors> sums;
    float* out = job.out + first;
    job.go_on ? sums.load(out, kOutputs) : sums.clear();
    Format::template run<V, kRows, kVectors>(job, w, sums);
    for (int merge = 0; merge < job.merges; ++merge) {
      out -= job.level;
      sums.add(out, kOutputs);
    }
    if (job.y == nullptr) {
      sums.store(out, kOutputs);
      continue;
    }
    if (job.bias != nullptr) sums.add(job.bias + first, 0);
    sums.store(job.y + first, job.y_stride);
  }
}

template <class V>
void add_vectors(const float* x, float* y, int64_t n) {
  for (int64_t i = 0; i < n; i += V::kWidth) V::store(y + i, V::add(V::load(y + i), V::load(x + i)));
}

template <class V, class Format, int kPanels, int kRows>
constexpr void fill(TileKernel (&kernels)[kMaxTileRows + 1]) {
  if constexpr (kRows > 0) {
    kernels[kRows] = tile<V, Format, kRows, kPanels>;
    fill<V, Format, kPanels, kRows - 1>(kernels);
  }
}

template <class V, int kMaxRows, int kMaxPairRows>
constexpr TileKernels make_tile_kernels() {
  TileKernels table{};
  table.max_rows = kMaxRows;
  table.max_pair_rows = kMaxPairRows;
  table.bf16_pairs = V::kBf16Pairs;
  fill<V, F32Weights, 1, kMaxRows>(table.one[0]);
  fill<V, Bf16Weights, 1, kMaxRows>(table.one[1]);
  fill<V, F32Weights, 2, kMaxPairRows>(table.pair[0]);
  fill<V, Bf16Weights, 2, kMaxPairRows>(table.pair[1]);
  table.add = add_vectors<V>;
  table.transpose = V::transpose;
  table.weave = V::weave;
  return table;
}

}  // namespace pleat
