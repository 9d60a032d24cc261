#pragma once
// Many rows of x as gemm() takes them.
#include "kernels/cuda/device.h"
#include "kernels/cuda/rows.h"
#include "kernels/tensor.h"

namespace pleat::cuda {

// What a kernel takes.
struct GemmInput {
  MatrixView<const float> x;  // [rows, width]
  int bits = 32;              // 16: the operand is bf16; 8: it is quantised; 32: there is none
  // [rows] of `stride` bytes, a multiple of 16: bf16 [width], or for each group of 64 inputs 16 words, byte i of word l
  // being input 16 i + l of the group.
  const unsigned char* operand = nullptr;
  int64_t stride = 0;
  const float* scales = nullptr;  // [rows, groups]
  const int* sums = nullptr;      // [rows, groups] of the quantised inputs
  constexpr int groups() const { return int((x.cols + 63) / 64); }
};

// Room on the device for what up to `rows` rows of up to `width` inputs become.
class GemmRows {
 public:
  GemmRows(int rows, int width);

  // Enqueues what the product with a matrix such as w needs of x [rows, w.width]: nothing for f32, rounding for bf16;
  // for low bits quantisation as kernels/low_bit.h says, with w's protected inputs as 0. It is there until the next
  // call.
  GemmInput prepare(StreamHandle stream, MatrixView<const float> x, const Rows& w);

 private:
  int64_t rows_, width_;
  DeviceArray<unsigned char> operand_;
  DeviceArray<float> scales_;
  DeviceArray<int> sums_;
};

}  // namespace pleat::cuda
