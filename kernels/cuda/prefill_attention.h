#pragma once
// Causal attention of many rows over a paged key-value cache on a device, for prompts (FlashAttention,
// https://arxiv.org/abs/2205.14135).
//
// FlashInfer's headers and cuDNN's frontend can be had as Python packages (flashinfer-python, nvidia-cudnn-frontend),
// but neither serves what stands here: a cache in f32 or in 8 bits with a scale a token and head, ALiBi rounded to bf16
// and heads of any size, in an order of additions that no scheduler chooses, tested without a device.
#include <span>

#include "kernels/attention.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/paged_rows.h"
#include "kernels/kv_cache.h"
#include "kernels/tensor.h"

namespace pleat::cuda {

// What attention() (kernels/cuda/attention.h) does, with the same arguments, in an order of its own: a token that came
// in a prompt keeps its bits in any chunks, alone or among others, and so does a generated one by attention(). Rows
// that stand together with one page table are attended together, keys and values read once for them; rows alone are
// better served by attention(). On tensor cores where the cache is in bf16 or in 8 bits and heads have a multiple of 16
// channels, 256 at most, queries and weights being rounded to 16 bits; Error(invalid) as for attention() elsewhere.
void prefill_attention(StreamHandle stream, MatrixView<const float> q, const PagedRows& rows, const KvCache& cache,
                       std::span<const int> kv_of_head, const AttentionScores& scores, MatrixView<float> out);

}  // namespace pleat::cuda
