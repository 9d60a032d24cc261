#include "kernels/cuda/kv_append.h"

#include "kernels/cuda/cache_blocks.h"
#include "kernels/cuda/sums.h"

namespace pleat::cuda {
namespace {

constexpr int kWarps = 4;            // of a block
constexpr float kSmallest = 1e-35f;  // below it a token's numbers count as zeros, as on the CPU

struct AppendWork {
  DeviceRotary rotary;
  MatrixView<float> q;
  MatrixView<const float> k, v;
  PagedRows rows;
  CacheBlocks cache;
};

struct Rotation {
  float cosine, sine;
};

// By a thread of the block each. Angles are rounded to f32, as models are trained.
__device__ void find_rotations(const DeviceRotary& rotary, int position, Rotation* rotations) {
  for (int i = int(threadIdx.x); i < rotary.dims / 2; i += kWarps * kWarp) {
    const float angle = float(position) * rotary.frequency[i];
    rotations[i] = {cosf(angle) * rotary.magnitude, sinf(angle) * rotary.magnitude};
  }
}

// By a warp.
__device__ void rotate_head(const DeviceRotary& rotary, const Rotation* rotations, float* head) {
  const int half = rotary.dims / 2;
  for (int i = int(threadIdx.x) % kWarp; i < half; i += kWarp) {
    float& first = head[rotary.interleaved ? 2 * i : i];
    float& second = head[rotary.interleaved ? 2 * i + 1 : i + half];
    const Rotation by = rotations[i];
    const float a = first, b = second;
    first = a * by.cosine - b * by.sine;
    second = b * by.cosine + a * by.sine;
  }
}

__device__ void store_number(float value, float* to) { *to = value; }
__device__ void store_number(float value, bf16* to) { to->bits = __bfloat16_as_ushort(__float2bfloat16_rn(value)); }

// A warp stores a token's head at its place in a block.
template <class Element>
__device__ void store_token(const float* head, int head_size, unsigned char* block, int place) {
  const int lane = int(threadIdx.x) % kWarp;
  if constexpr (sizeof(Element) > 1) {
    Element* const numbers = reinterpret_cast<Element*>(block) + place * head_size;
    for (int i = lane; i < head_size; i += kWarp) store_number(head[i], numbers + i);
  } else {
    float largest = 0;
    bool odd = false;  // fmaxf passes over NaN
    for (int i = lane; i < head_size; i += kWarp) {
      largest = fmaxf(largest, fabsf(head[i]));
      odd |= isnan(head[i]);
    }
    largest = __any_sync(~0u, odd) ? NAN : warp_max(largest);
    const bool zero = largest < kSmallest;
    const float inverse = zero ? 0 : 127 / largest;
    float* const scales = reinterpret_cast<float*>(block);
    if (lane == 0) scales[place] = zero ? 0 : largest / 127;
    int8_t* const codes = reinterpret_cast<int8_t*>(scales + kPageTokens) + place * head_size;
    for (int i = lane; i < head_size; i += kWarp) codes[i] = int8_t(rintf(head[i] * inverse));
  }
}

// By a warp: heads are those of q, then of k, then of v.   head: [head_size] in shared memory
template <class Element>
__device__ void append_head(const AppendWork& work, int row, int position, int index, const Rotation* rotations,
                            float* head) {
  const int lane = int(threadIdx.x) % kWarp, head_size = work.cache.head_size, kv_heads = work.cache.kv_heads;
  const int q_heads = int(work.q.cols) / head_size;
  const bool is_q = index < q_heads, is_v = index >= q_heads + kv_heads;
  const int number = is_q ? index : (index - q_heads) % kv_heads;
  float* const q = work.q.data + row * work.q.stride + number * head_size;
  const MatrixView<const float>& kv = is_v ? work.v : work.k;
  const float* const from = is_q ? q : kv.data + row * kv.stride + number * head_size;
  for (int i = lane; i < head_size; i += kWarp) head[i] = from[i];
  __syncwarp();
  if (!is_v) rotate_head(work.rotary, rotations, head);
  __syncwarp();
  if (is_q) {
    for (int i = lane; i < work.rotary.dims; i += kWarp) q[i] = head[i];
  } else {
    unsigned char* const blocks = is_v ? work.cache.values : work.cache.keys;
    store_token<Element>(head, head_size, blocks + block_of(work.cache, work.rows, row, position, number),
                         position % kPageTokens);
  }
  __syncwarp();
}

// A block a row and every gridDim.y-th kWarps heads. Positions are read before the kernel before has ended: no kernel
// writes them.
template <class Element>
__global__ void __launch_bounds__(kWarps* kWarp) append_heads(AppendWork work) {
  const int warp = int(threadIdx.x) / kWarp, row = int(blockIdx.x), head_size = work.cache.head_size;
  const int heads = int(work.q.cols) / head_size + 2 * work.cache.kv_heads;
  const int position = work.rows.positions[row];
  float* const head = dynamic_shared<float>() + warp * head_size;
  Rotation* const rotations = reinterpret_cast<Rotation*>(dynamic_shared<float>() + kWarps * head_size);
  let_next_start();
  find_rotations(work.rotary, position, rotations);
  wait_for_previous();
  __syncthreads();
  if (position < 0) return;
  for (int index = int(blockIdx.y) * kWarps + warp; index < heads; index += int(gridDim.y) * kWarps)
    append_head<Element>(work, row, position, index, rotations, head);
}

}  // namespace

void append_kv(cudaStream_t stream, const DeviceRotary& rotary, MatrixView<float> q, MatrixView<const float> k,
               MatrixView<const float> v, const PagedRows& rows, const KvCache& cache) {
  PLEAT_ASSERT(q.rows == rows.count && k.rows == rows.count && v.rows == rows.count, q.rows, " queries, ", k.rows,
               " keys, ", v.rows, " values, ", rows.count, " rows");
  PLEAT_ASSERT(q.cols % cache.head_size == 0 && k.cols == int64_t(cache.kv_heads) * cache.head_size && v.cols == k.cols,
               q.cols, ", ", k.cols, " and ", v.cols, " columns for ", cache.kv_heads, " heads of ", cache.head_size);
  PLEAT_ASSERT(rotary.dims % 2 == 0 && rotary.dims <= cache.head_size, rotary.dims, " of ", cache.head_size);
  const AppendWork work{rotary, q, k, v, rows, blocks_of(cache)};
  const int heads = int(q.cols / cache.head_size) + 2 * cache.kv_heads;
  constexpr int kManyRows = 64, kHeadsOfManyRows = 4 * kWarps;  // of a block
  const int together = rows.count > kManyRows ? kHeadsOfManyRows : kWarps;
  const Launch how{dim3(unsigned(rows.count), unsigned((heads + together - 1) / together)), kWarps * kWarp,
                   (size_t(kWarps) * size_t(cache.head_size) + size_t(rotary.dims)) * sizeof(float), stream};
  with_element(cache.dtype, [&]<class Element>(Element) { launch_overlapping(append_heads<Element>, how, work); });
}

}  // namespace pleat::cuda
