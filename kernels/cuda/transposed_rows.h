#pragma once
// A matrix that stands by input as one by output, for the products of prompts: a folded FFN's down rows, which are
// gathered by neuron otherwise, and gate and up where their inputs are cut.
#include "kernels/cuda/rows.h"

namespace pleat::cuda {

// Room on the device for one such matrix.
class TransposedRows {
 public:
  TransposedRows() = default;
  explicit TransposedRows(int64_t bytes) : data_(size_t(bytes)) {}
  static int64_t bytes_of(const Rows& w);

  // Enqueues the transposition of w [inputs, outputs], in f32 where w is, else in bf16: low-bit weights, scale * code +
  // minimum in f32, are rounded to it, protected rows stay as they are. It is there until the next call.
  Rows transpose(StreamHandle stream, const Rows& w) const;

 private:
  DeviceArray<unsigned char> data_;
};

}  // namespace pleat::cuda
