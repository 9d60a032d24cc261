#pragma once
// Weights on the device: a row an output, or a neuron, in the memory layout of kernels/neuron_rows.h; matrices in
// planes in that of plane_records.h.
#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/cuda/plane_records.h"

namespace pleat {
class LowBitMatrix;
class NeuronRows;
class PackedMatrix;
class PlanesMatrix;
}  // namespace pleat

namespace pleat::cuda {

// What a kernel takes.
struct Rows {
  const unsigned char* data = nullptr;  // [rows] of `stride` bytes, a multiple of 16
  int64_t stride = 0;
  int bits = 16;  // of a weight: 1 to 6 or 8 (codes), 16 (bf16), 32 (f32)
  int rows = 0, width = 0;
  bool has_minimums = false;  // low-bit: what int8 and matrices in planes lack
  bool planes = false;        // a code's `bits` bits are signs, which look its value up
  PlaneBlocks blocks;         // of a matrix in planes, which is no rows: `data` is nullptr
  // Low-bit only, see NeuronRows: inputs whose weights stand in bf16 behind a row, and rows that stand in bf16 apart.
  const int32_t* protected_inputs = nullptr;  // [protected_input_count]
  int protected_input_count = 0;
  const int32_t* protected_rows = nullptr;          // [protected_row_count]
  const uint16_t* protected_row_weights = nullptr;  // bf16 [protected_row_count, width]
  int protected_row_count = 0;
};

// A copy on the device.
class DeviceRows {
 public:
  DeviceRows() = default;
  DeviceRows(const NeuronRows& rows, const Stream& stream);
  DeviceRows(const PackedMatrix& matrix, const Stream& stream);  // a row an output
  DeviceRows(const LowBitMatrix& matrix, const Stream& stream);  // a row an output
  DeviceRows(const PlanesMatrix& matrix, const Stream& stream);
  Rows view() const;
  int64_t bytes() const;  // of weights

 private:
  Rows shape_;
  DeviceArray<unsigned char> data_;
  DeviceArray<int32_t> protected_inputs_, protected_rows_;
  DeviceArray<uint16_t> protected_row_weights_;
  PlaneRecords records_;
};

}  // namespace pleat::cuda
