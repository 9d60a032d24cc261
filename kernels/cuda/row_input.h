#pragma once
// A few rows of x as rows of weights are multiplied with: as they are, and quantised as kernels/low_bit.h says.
#include "kernels/cuda/device.h"

namespace pleat::cuda {

constexpr int kMaxRows = 16;

// What a kernel takes. The quantised form is that for one list of protected inputs.
struct RowInput {
  const float* x = nullptr;  // [rows, width]
  int rows = 0, width = 0;
  const int* q = nullptr;         // [rows][16][groups] words: byte i of word l is input 16 i + l of its group of 64
  const float* scales = nullptr;  // [rows, groups]
  const int* sums = nullptr;      // [rows, groups] of q
  constexpr int groups() const { return (width + 63) / 64; }
};

// Room for the quantised form of up to kMaxRows rows.
class QuantisedRows {
 public:
  explicit QuantisedRows(int width);

  // Enqueues the quantisation of x [rows, width]; inputs of the list [count], on the device, become 0.
  RowInput quantise(StreamHandle stream, const float* x, int rows, const int32_t* protected_inputs = nullptr,
                    int count = 0);

 private:
  int width_;
  DeviceArray<int> q_, sums_;
  DeviceArray<float> scales_;
};

}  // namespace pleat::cuda
