#pragma once
// prefill_attention() by what the cache holds. Included by .cu files only.
#include "kernels/cuda/attention_rows.h"
#include "kernels/cuda/prefill_attention.h"
#include "kernels/cuda/shared_memory.h"

namespace pleat::cuda {

struct PrefillWork {
  const float* q;
  int64_t q_stride;
  PagedRows rows;
  CacheBlocks cache;
  AttentionScores scores;
  HeadGroups groups;
  float* memory;  // [prefill_attention_work(...)]
  float* out;
  int64_t out_stride;
};

// By fused multiply-adds: any cache.
void prefill_attention_plain(cudaStream_t stream, const KvCache& cache, const PrefillWork& work);

// On tensor cores: a cache in bf16 or in 8 bits, heads whose size is a multiple of 16 up to 256, on small devices 128.
bool suits_tensor_cores(const KvCache& cache);
void prefill_attention_tensor(cudaStream_t stream, const KvCache& cache, const PrefillWork& work);

// By FlashInfer's headers; no_flash_infer.cu stands in where they are not there.
size_t flash_infer_work(int rows, int q_heads, int head_size);  // floats
void prefill_attention_flash_infer(cudaStream_t stream, const PrefillWork& work, int q_heads);

}  // namespace pleat::cuda
