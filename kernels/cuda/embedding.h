#pragma once
// The first thing a step does: its tokens' rows of the embedding.

#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/cuda/rows.h"
#include "kernels/dtype.h"

namespace pleat::cuda {

// A rank's rows of the token embedding: those of the tokens [first_token, first_token + rows).
struct TokenEmbedding {
  Rows table;  // [rows, d]
  int first_token = 0;
  float scale = 1;
};

// Learned positions: position p has row p + offset (GPT-2: 0, OPT: 2).
struct PositionEmbedding {
  Rows table;  // [positions + offset, d]; no rows: the model has none
  int offset = 0;
};

// out = scale * the token's row, zeros where it is another rank's, + the position's row. The product is rounded before
// the sum, so ranks' outputs add up to the same bits (a zero's sign aside) however the vocabulary is split, given that
// exactly one of them has the positions.
//   token_ids, positions  [rows], rows from 1; positions may be nullptr where there is no table of them
//   out                   [rows, d] f32
void embed(StreamHandle stream, int rows, int d, const int32_t* token_ids, const TokenEmbedding& tokens,
           const int32_t* positions, const PositionEmbedding& learned, float* out);

}  // namespace pleat::cuda
