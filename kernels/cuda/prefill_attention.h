#pragma once
// Causal attention of many rows over a paged key-value cache on a device, for prompts (FlashAttention,
// https://arxiv.org/abs/2205.14135): FlashInfer's (https://arxiv.org/abs/2501.01005) where this build has its headers
// and it serves what is asked, an own one elsewhere.
#include <cstddef>
#include <span>

#include "kernels/attention.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/paged_rows.h"
#include "kernels/kv_cache.h"
#include "kernels/tensor.h"

namespace pleat::cuda {

// The floats that prefill_attention() needs for up to so many rows.
size_t prefill_attention_work(int rows, int q_heads, int head_size);

// What attention() (kernels/cuda/attention.h) does, with the same arguments, in an order of its own: a token that came
// in a prompt keeps its bits in any chunks, alone or among others, and so does a generated one by attention(). Rows
// that stand together with one page table are attended together, keys and values read once for them; rows alone are
// better served by attention().
//   FlashInfer   where the cache is in bf16, heads have 64, 128 or 256 channels, and scores have neither soft cap nor
//                window nor slopes. Queries and weights are rounded to bf16; out.stride is a multiple of the head's
//                size
//   own, on tensor cores   where the cache is in bf16 or in 8 bits and heads have a multiple of 16 channels, 256 at
//                most; queries and weights are right within 2^-16 of themselves
//   own, in f32  elsewhere; Error(invalid) as for attention()
void prefill_attention(StreamHandle stream, MatrixView<const float> q, const PagedRows& rows, const KvCache& cache,
                       std::span<const int> kv_of_head, const AttentionScores& scores, float* work,
                       MatrixView<float> out);

// Whether FlashInfer does it.
bool attends_by_flash_infer(const KvCache& cache, const AttentionScores& scores);

}  // namespace pleat::cuda
