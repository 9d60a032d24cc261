#pragma once
// What a warp's lanes do together with matrices of which each holds a part (tensor_core.h).
#include "kernels/emulator/block.h"

namespace pleat::emulator {

// What a lane brings to a product, and what it gets of four matrices.
struct LaneOperands {
  const unsigned *a, *b;
  void* c;
};
struct LaneRows {
  const void* row;
  const unsigned* rows[4];  // the row of each matrix that it gets a word of
};

// For Block::warp_together(), of LaneOperands and of LaneRows.
void multiply_bf16(const WarpOffers& lanes);
void multiply_int8(const WarpOffers& lanes);
void exchange_rows(const WarpOffers& lanes);

}  // namespace pleat::emulator
