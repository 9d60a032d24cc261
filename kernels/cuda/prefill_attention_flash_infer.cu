// Attention of prompts by FlashInfer's templates, over our pages and runs of rows that are found on the device. Each
// tile of items takes blocks of 64 keys from position 0 on, in their order, and what an item does not see changes
// nothing of its sums: its bits depend on its position alone.
#include "flash_infer.h"
#include "kernels/cuda/prefill_attention_kernels.h"
#include "kernels/cuda/prompt_tiles.h"

namespace pleat::cuda {
namespace {

using Params = flashinfer::BatchPrefillPagedParams<nv_bfloat16, nv_bfloat16, float, int32_t>;

constexpr int kLeastItems = 64;  // of a tile
constexpr int kMoreBlocks = 4;   // than full tiles: of rows that fill none
constexpr int kThreads = 256;

// Tiles of 128 items, but 64 where heads are so large that their sums would not fit in registers.
template <int kHeadSize>
struct Tile {
  static constexpr int kItems = kHeadSize <= 128 ? 128 : kLeastItems;
  static constexpr int kSteps = kHeadSize / 16, kWarps = 4, kKeySteps = 4;
  using Variant = flashinfer::DefaultAttention<false, false, false, false>;  // a scale and the causal mask
  using Traits = flashinfer::KernelTraits<flashinfer::MaskMode::kCausal, kItems, kItems / (16 * kWarps), kKeySteps,
                                          kSteps, kSteps, kWarps, 1, flashinfer::PosEncodingMode::kNone, nv_bfloat16,
                                          nv_bfloat16, float, float, int32_t, Variant>;
};

// use(Tile<head_size>()).
template <class Use>
void with_tile(int head_size, Use use) {
  if (head_size == 64) return use(Tile<64>());
  if (head_size == 128) return use(Tile<128>());
  PLEAT_ASSERT(head_size == 256);
  use(Tile<256>());
}

// Block 0 finds the tiles, the others round the queries: q [rows, cols] to bf16, side by side.
__global__ void __launch_bounds__(kThreads)
    prepare(PrefillWork work, int group, int tile_items, PromptTiles tiles, nv_bfloat162* rounded, int pairs) {
  let_next_start();
  wait_for_previous();
  if (blockIdx.x == 0) {
    if (threadIdx.x < kWarp) find_tiles(work.rows, group, tile_items, tiles);
    return;
  }
  const int row = int(blockIdx.x) - 1;
  for (int pair = int(threadIdx.x); pair < pairs; pair += kThreads) {
    const float* const q = work.q + row * work.q_stride + 2 * pair;
    rounded[int64_t(row) * pairs + pair] = __floats2bfloat162_rn(q[0], q[1]);
  }
}

template <class Traits>
__global__ void __launch_bounds__(Traits::NUM_THREADS) attend(Params params, const int32_t* tiles, int kv_heads) {
  auto& memory = *dynamic_shared<typename Traits::SharedStorage>();
  for (int tile = int(blockIdx.x); tile < *tiles; tile += int(gridDim.x)) {
    flashinfer::BatchPrefillWithPagedKVCacheDevice<Traits>(params, memory, threadIdx, unsigned(tile), blockIdx.z,
                                                           unsigned(kv_heads));
    __syncthreads();
  }
}

// Whether all kv heads have as many query heads, and outputs lie side by side: one launch does them all.
bool are_alike(const PrefillWork& work, int q_heads) {
  return work.groups.largest * work.cache.kv_heads == q_heads &&
         work.out_stride == int64_t(q_heads) * work.cache.head_size;
}

flashinfer::paged_kv_t<nv_bfloat16, int32_t> pages_of(const PrefillWork& work, const PromptTiles& tiles) {
  const CacheBlocks& cache = work.cache;
  const int64_t token = cache.head_size, head = kPageTokens * token, strides[] = {cache.kv_heads * head, head, token};
  return {unsigned(cache.kv_heads),
          kPageTokens,
          unsigned(cache.head_size),
          unsigned(2 * tiles.most_runs),
          flashinfer::QKVLayout::kHND,
          reinterpret_cast<nv_bfloat16*>(cache.keys),
          reinterpret_cast<nv_bfloat16*>(cache.values),
          strides,
          const_cast<int32_t*>(work.rows.page_tables),
          tiles.pages,
          tiles.last_page_tokens};
}

Params params_of(const PrefillWork& work, const PromptTiles& tiles, nv_bfloat16* q, int q_heads, int group) {
  Params params;
  params.q = q;
  params.paged_kv = pages_of(work, tiles);
  params.q_indptr = params.o_indptr = tiles.rows;
  params.o = work.out;
  params.group_size = flashinfer::uint_fastdiv(unsigned(group));
  params.num_qo_heads = unsigned(q_heads);
  params.q_stride_n = q_heads * work.cache.head_size;
  params.q_stride_h = work.cache.head_size;
  params.window_left = -1;
  params.sm_scale = work.scores.scale;
  params.request_indices = tiles.requests;
  params.qo_tile_indices = params.kv_tile_indices = tiles.indices;  // keys are not partitioned, the latter not used
  params.kv_chunk_size_ptr = tiles.count;
  return params;
}

template <class Tile>
void attend_tiles(cudaStream_t stream, const PrefillWork& work, int q_heads) {
  using Traits = typename Tile::Traits;
  const int rows = work.rows.count, head_size = work.cache.head_size, cols = q_heads * head_size;
  const bool alike = are_alike(work, q_heads);
  const int group = alike ? work.groups.largest : 1;  // query heads that a block takes together
  auto* const q = reinterpret_cast<nv_bfloat16*>(work.memory);
  const PromptTiles tiles = PromptTiles::in(reinterpret_cast<int32_t*>(q + int64_t(rows) * cols), rows,
                                            PromptTiles::most(rows, group, Tile::kItems));
  launch_overlapping(prepare, {unsigned(1 + rows), kThreads, 0, stream}, work, group, Tile::kItems, tiles,
                     reinterpret_cast<nv_bfloat162*>(q), cols / 2);
  const auto start = [&](const Params& params, int heads, int out_heads) {
    launch(attend<Traits>,
           {.grid = dim3(unsigned(rows * group / Tile::kItems + kMoreBlocks), 1, unsigned(heads)),
            .block = dim3(kWarp, Tile::kWarps),
            .shared = sizeof(typename Traits::SharedStorage),
            .stream = stream},
           params, tiles.count, out_heads);
  };
  const Params all = params_of(work, tiles, q, q_heads, group);
  if (alike) return start(all, work.cache.kv_heads, work.cache.kv_heads);
  // Each query head as if it were a kv head, all those of one kv head with its keys.
  for (int kv_head = 0; kv_head < work.cache.kv_heads; ++kv_head) {
    const int first = work.groups.begin[kv_head], count = work.groups.begin[kv_head + 1] - first;
    if (count == 0) continue;
    Params params = all;
    params.q += int64_t(first) * head_size;
    params.o += int64_t(first) * head_size;
    params.paged_kv.k_data += int64_t(kv_head) * all.paged_kv.stride_h;
    params.paged_kv.v_data += int64_t(kv_head) * all.paged_kv.stride_h;
    params.paged_kv.stride_h = 0;
    start(params, count, int(work.out_stride / head_size));
  }
}

}  // namespace

bool attends_by_flash_infer(const KvCache& cache, const AttentionScores& scores) {
  return cache.dtype == DType::bf16 && (cache.head_size == 64 || cache.head_size == 128 || cache.head_size == 256) &&
         scores.soft_cap == 0 && scores.window == 0 && scores.slopes == nullptr;
}

size_t flash_infer_work(int rows, int q_heads, int head_size) {
  const int tiles = PromptTiles::most(rows, q_heads, kLeastItems);
  return size_t(rows) * size_t(q_heads) * size_t(head_size) / 2 + PromptTiles::words(rows, tiles);
}

void prefill_attention_flash_infer(cudaStream_t stream, const PrefillWork& work, int q_heads) {
  PLEAT_ASSERT(work.out_stride % work.cache.head_size == 0, "outputs at a distance of ", work.out_stride);
  with_tile(work.cache.head_size, [&]<class Tile>(Tile) { attend_tiles<Tile>(stream, work, q_heads); });
}

}  // namespace pleat::cuda
