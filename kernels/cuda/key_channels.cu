#include "kernels/cuda/key_channels.h"

#include "kernels/cuda/cache_blocks.h"

namespace pleat::cuda {
namespace {

constexpr int kThreads = 128;

unsigned blocks_for(int64_t things) { return unsigned((things + kThreads - 1) / kThreads); }

// A thread a channel.
__global__ void __launch_bounds__(kThreads)
    add_squares_kernel(MatrixView<const float> q, ObservedRows rows, int pages, float* sums) {
  const int channel = int(blockIdx.x) * kThreads + int(threadIdx.x);
  if (channel >= q.cols) return;
  for (int row = 0; row < q.rows; ++row) {
    if (rows.observed[row] == 0) continue;
    const int position = rows.positions[row];
    float& sum = sums[(int64_t(rows.slots[row]) * pages + position / kPageTokens % pages) * q.cols + channel];
    const float value = q.data[row * q.stride + channel];
    sum = (position % kPageTokens == 0 ? 0.0f : sum) + __fmul_rn(value, value);
  }
}

__device__ inline double as_double(float value) { return value; }
__device__ inline double as_double(bf16 value) { return __uint_as_float(unsigned(value.bits) << 16); }
__device__ inline double as_double(int8_t value) { return value; }

// A thread a channel of a kv head.
template <class Element>
__global__ void __launch_bounds__(kThreads)
    energies_kernel(CacheBlocks cache, const int32_t* page_table, int tokens, double* out) {
  const int at = int(blockIdx.x) * kThreads + int(threadIdx.x), head = at / cache.head_size;
  if (head >= cache.kv_heads) return;
  double sum = 0;
  for (int position = 0; position < tokens; ++position) {
    const int place = position % kPageTokens;
    const unsigned char* const block =
        cache.keys + (int64_t(page_table[position / kPageTokens]) * cache.kv_heads + head) * cache.block_bytes;
    const float scale = sizeof(Element) == 1 ? reinterpret_cast<const float*>(block)[place] : 1.0f;
    const Element* const keys = reinterpret_cast<const Element*>(block + cache.scale_bytes);
    const double value = as_double(keys[place * cache.head_size + at % cache.head_size]) * double(scale);
    sum += value * value;
  }
  out[at] = sum;
}

// A block a page and kv head, a thread a channel.
template <class Element>
__global__ void __launch_bounds__(kThreads)
    drop_kernel(CacheBlocks cache, CutPages pages, const int32_t* kept, int kept_channels) {
  const int page = int(blockIdx.x), head = int(blockIdx.y);
  const int32_t* const keeps = kept + (int64_t(pages.slots[page]) * cache.kv_heads + head) * kept_channels;
  const int64_t block = (int64_t(pages.pages[page]) * cache.kv_heads + head) * cache.block_bytes;
  Element* const keys = reinterpret_cast<Element*>(cache.keys + block + cache.scale_bytes);
  for (int channel = int(threadIdx.x); channel < cache.head_size; channel += kThreads) {
    bool is_kept = false;
    for (int i = 0; i < kept_channels; ++i) is_kept |= keeps[i] == channel;
    for (int token = 0; token < kPageTokens && !is_kept; ++token) keys[token * cache.head_size + channel] = Element();
  }
}

}  // namespace

void add_query_squares(cudaStream_t stream, MatrixView<const float> q, const ObservedRows& rows, int pages,
                       float* sums) {
  if (q.cols == 0) return;
  launch(add_squares_kernel, {blocks_for(q.cols), kThreads, 0, stream}, q, rows, pages, sums);
}

void key_energies(cudaStream_t stream, const KvCache& cache, const int32_t* page_table, int tokens, double* out) {
  const Launch how{blocks_for(int64_t(cache.kv_heads) * cache.head_size), kThreads, 0, stream};
  with_element(cache.dtype, [&]<class Element>(Element) {
    launch(energies_kernel<Element>, how, blocks_of(cache), page_table, tokens, out);
  });
}

void drop_channels(cudaStream_t stream, const KvCache& cache, const CutPages& pages, const int32_t* kept,
                   int kept_channels) {
  if (pages.count == 0) return;
  const Launch how{dim3(unsigned(pages.count), unsigned(cache.kv_heads)), kThreads, 0, stream};
  with_element(cache.dtype, [&]<class Element>(Element) {
    launch(drop_kernel<Element>, how, blocks_of(cache), pages, kept, kept_channels);
  });
}

}  // namespace pleat::cuda
