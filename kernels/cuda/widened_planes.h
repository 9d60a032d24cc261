#pragma once
// Planes as a matrix in 8 bits, for the products of prompts.
#include "kernels/cuda/rows.h"

namespace pleat::cuda {

// Room on the device for one such matrix.
class WidenedPlanes {
 public:
  WidenedPlanes() = default;
  explicit WidenedPlanes(int64_t bytes) : data_(size_t(bytes)) {}
  static int64_t bytes_of(const Rows& w);

  // Enqueues the widening of w, whose codes are what its signs look up: sums of scales, which are below 128 in
  // magnitude. It is there until the next call.
  Rows widen(StreamHandle stream, const Rows& w) const;

 private:
  DeviceArray<unsigned char> data_;
};

}  // namespace pleat::cuda
