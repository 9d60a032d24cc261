#pragma once
// A few rows of x as rows of weights are multiplied with: as they are, and quantised as kernels/low_bit.h says.
#include "kernels/cuda/device.h"

namespace pleat::cuda {

constexpr int kMaxRows = 16;

// What a kernel takes. The quantised form is that for one list of protected inputs.
struct RowInput {
  const float* x = nullptr;  // [rows, width], x_stride from row to row
  int rows = 0, width = 0;
  int x_stride = 0, group_stride = 0;  // at least width and groups() of the whole rows that these are part of
  // [rows][groups][16] words: byte i of the word at word_place(l) is input 16 i + l of its group of 64.
  const int* q = nullptr;
  const float* scales = nullptr;              // [rows, groups]
  const int* sums = nullptr;                  // [rows, groups] of q
  const int32_t* protected_inputs = nullptr;  // the list, on the device; nullptr: none
  const int* quads = nullptr;  // the same, [rows][4][groups][4]: what neighbouring lanes read of neighbouring groups
  constexpr int groups() const { return (width + 63) / 64; }
  constexpr const int* words(int row, int group) const { return q + (int64_t(row) * group_stride + group) * 16; }
  // Words [4 t, 4 t + 4) of a group's 16.
  constexpr const int* quad(int row, int t, int group) const {
    return quads + ((int64_t(row) * 4 + t) * group_stride + group) * 4;
  }
  // Words 2 t, 2 t + 1, 2 t + 8 and 2 t + 9 stand together: what lane t of four needs for the tensor core.
  static constexpr int word_place(int l) { return l % 8 / 2 * 4 + l / 8 * 2 + l % 2; }

  static RowInput of_floats(const float* x, int rows, int width) {
    return {.x = x, .rows = rows, .width = width, .x_stride = width};
  }
  // Inputs [first, first + count). Where x is quantised, first is a multiple of 64 and no input was protected.
  RowInput slice(int first, int count) const;
  RowInput from_row(int first, int count) const;  // rows [first, first + count)
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
  DeviceArray<int> q_, quads_, sums_;
  DeviceArray<float> scales_;
};

}  // namespace pleat::cuda
