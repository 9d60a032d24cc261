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
struct LaneColumns {
  const void* row;
  const uint16_t* rows[4][2];  // the two rows of each matrix that it gets a number of
};

// Fails where a matrix's row does not lie as it must.
inline const void* matrix_row(const void* row, Place place) {
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) fail("a matrix's row is at no multiple of 16 bytes", place);
  return row;
}

// For Block::warp_together(), of LaneOperands, of LaneRows and of LaneColumns.
void multiply_bf16(const WarpOffers& lanes);
void multiply_int8(const WarpOffers& lanes);
void exchange_rows(const WarpOffers& lanes);
void exchange_columns(const WarpOffers& lanes);

}  // namespace pleat::emulator
