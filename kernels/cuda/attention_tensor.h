#pragma once
// A warp's work on one page by its tensor core, as PageAttention does it in plain f32: heads of 64 or 128 channels over
// a cache in bf16 or in codes, which bf16 holds exactly. A query and a weight become the sum of two bf16, so that a
// product is right within 2^-16 of itself. Included by .cu files only.
//
// Lane l has g = l / 4 and t = l % 4. Channels are multiplied in an order in which a lane's operands are whole pieces
// of 8 neighbouring channels, and no lane hands any to another:
//   scores   [8 heads, 8 tokens] of token g of either half of the page: pieces t and 4 + t of every 64 channels, a word
//            of each at a time; a lane gets the scores of head g and tokens 2t and 2t + 1 of both halves
//   values   [8 heads, 8 channels], channels j, 8 + j, 16 + j ... at a time for j < 8, of tokens 2t and 2t + 1 of both
//            halves piece g of every 64 channels; a lane gets head g's channels 16t to 16t + 15 of every 64
#include "kernels/cuda/attention_page.h"
#include "kernels/cuda/split_bf16.h"
#include "tensor_core.h"

namespace pleat::cuda {

template <class Element, int kSixtyFours>
struct TensorAttention {
  static constexpr int kQueryHeads = 8, kChannels = 64 * kSixtyFours, kShares = 1;
  static constexpr int kWeights = 1;  // none in shared memory
  using Piece = LaneNumbers<Element>;
  struct Keys {
    Piece at[2][kSixtyFours][2];  // of either half's token, pieces t and 4 + t
  };
  struct Values {
    Piece at[4][kSixtyFours];  // of tokens 2t, 2t + 1, 8 + 2t and 9 + 2t
  };

  PageShape shape;
  // The tensor core's 16 rows are the higher parts of 8 heads, then their lower ones.
  unsigned q[kSixtyFours][4][4];  // of pieces t and 4 + t a word each
  unsigned weights[4];            // of tokens 2t and 2t + 1 of either half
  float out[kSixtyFours][8][2];   // of channels 16t + j and 16t + 8 + j

  __device__ explicit TensorAttention(const PageShape& shape, float*) : shape(shape) {}

  __device__ static int g() { return int(threadIdx.x) % kWarp / 4; }
  __device__ static int t() { return int(threadIdx.x) % 4; }
  __device__ static int token_of(int i) { return i / 2 * 8 + 2 * t() + i % 2; }

  __device__ Piece load(const unsigned char* cached, const PageView& page, int token, int piece) const {
    if (!page.sees(token)) return Piece{};
    return Piece::load(cached + page.block + shape.scale_bytes +
                       (token * kChannels + piece * kLaneChannels) * int(sizeof(Element)));
  }
  __device__ void load_keys(const PageView& page, Keys& keys) const {
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int i = 0; i < kSixtyFours; ++i)
#pragma unroll
        for (int second = 0; second < 2; ++second)
          keys.at[half][i][second] = load(shape.keys, page, half * 8 + g(), i * 8 + second * 4 + t());
  }
  __device__ void load_values(const PageView& page, Values& values) const {
#pragma unroll
    for (int token = 0; token < 4; ++token)
#pragma unroll
      for (int i = 0; i < kSixtyFours; ++i)
        values.at[token][i] = load(shape.values, page, token_of(token), i * 8 + g());
  }

  // Of a row's `heads` query heads, times the scale.
  __device__ void load_queries(const float* of_heads, int heads, float scale) {
#pragma unroll
    for (int i = 0; i < kSixtyFours; ++i)
#pragma unroll
      for (int second = 0; second < 2; ++second) {
        Floats<4> low{}, high{};
        if (g() < heads) {
          const float* const from = of_heads + g() * kChannels + (i * 8 + second * 4 + t()) * kLaneChannels;
          low = Floats<4>::load(from);
          high = Floats<4>::load(from + 4);
        }
#pragma unroll
        for (int word = 0; word < 4; ++word) {
          const Floats<4>& half = word < 2 ? low : high;
          const SplitPair pair = split_pair(half.at[word % 2 * 2] * scale, half.at[word % 2 * 2 + 1] * scale);
          q[i][word][2 * second] = pair.high;
          q[i][word][2 * second + 1] = pair.low;
        }
      }
  }

  // Word `word` of a piece, in bf16.
  __device__ static unsigned word_of(const Piece& piece, int word) {
    if constexpr (sizeof(Element) == 2) return piece.words[word];
    return bf16_pair(piece.at(2 * word), piece.at(2 * word + 1));
  }

  __device__ void find_weights(const PageView& page, const Keys& keys, const AttentionScores& rule, int q_head,
                               int heads, float* highest, float* total) {
    float products[2][4] = {};  // of tokens 2t and 2t + 1 of either half
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int i = 0; i < kSixtyFours; ++i)
#pragma unroll
        for (int word = 0; word < 4; ++word) {
          const unsigned key[2] = {word_of(keys.at[half][i][0], word), word_of(keys.at[half][i][1], word)};
          multiply_add(products[half], q[i][word], key);
        }
    const auto scale_of = [&](const unsigned char* cached, int token) {
      return sizeof(Element) == 1 && page.sees(token) ? reinterpret_cast<const float*>(cached + page.block)[token]
                                                      : 1.0f;
    };
    float scores[4], most = -INFINITY;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = token_of(i);
      const float product = (products[i / 2][i % 2] + products[i / 2][2 + i % 2]) * scale_of(shape.keys, token);
      scores[i] =
          page.sees(token) && g() < heads ? score_of(product, rule, q_head + g(), page.position + token) : -INFINITY;
      most = fmaxf(most, scores[i]);
    }
#pragma unroll
    for (int with = 1; with < 4; with *= 2) most = fmaxf(most, __shfl_xor_sync(~0u, most, with));
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float weight = scores[i] == -INFINITY ? 0.0f : __expf(scores[i] - most);
      sum += weight;
      scores[i] = weight * scale_of(shape.values, token_of(i));
    }
#pragma unroll
    for (int with = 1; with < 4; with *= 2) sum += __shfl_xor_sync(~0u, sum, with);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const SplitPair pair = split_pair(scores[2 * half], scores[2 * half + 1]);
      weights[2 * half] = pair.high;
      weights[2 * half + 1] = pair.low;
    }
    if (t() == 0) {
      highest[g()] = most;
      total[g()] = sum;
    }
  }

  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < kSixtyFours; ++i)
#pragma unroll
      for (int j = 0; j < 8; ++j) out[i][j][0] = out[i][j][1] = 0;
  }

  __device__ void add_up_values(const PageView&, const Values& values) {
#pragma unroll
    for (int i = 0; i < kSixtyFours; ++i)
#pragma unroll
      for (int word = 0; word < 4; ++word) {
        unsigned of_token[4];
#pragma unroll
        for (int token = 0; token < 4; ++token) of_token[token] = word_of(values.at[token][i], word);
#pragma unroll
        for (int upper = 0; upper < 2; ++upper) {
          const unsigned selector = upper != 0 ? 0x7632 : 0x5410;
          const unsigned value[2] = {__byte_perm(of_token[0], of_token[1], selector),
                                     __byte_perm(of_token[2], of_token[3], selector)};
          float sums[4] = {};
          multiply_add(sums, weights, value);
          out[i][2 * word + upper][0] = sums[0] + sums[2];
          out[i][2 * word + upper][1] = sums[1] + sums[3];
        }
      }
  }

  // `out` to [kQueryHeads, kChannels].
  __device__ void store(float* to) const {
#pragma unroll
    for (int i = 0; i < kSixtyFours; ++i)
#pragma unroll
      for (int second = 0; second < 2; ++second)
#pragma unroll
        for (int j = 0; j < 8; j += kQuad)
          Quad{{out[i][j][second], out[i][j + 1][second], out[i][j + 2][second], out[i][j + 3][second]}}.store(
              to + g() * kChannels + i * 64 + 16 * t() + 8 * second + j);
  }
};

}  // namespace pleat::cuda
