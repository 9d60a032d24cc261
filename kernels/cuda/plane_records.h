#pragma once
// Matrices of binary-coded planes (kernels/planes.h) as the device holds them: a record is 64 outputs by 64 inputs. It
// has the scales A_p [planes][64 tables], a byte each, then the signs, cut into tiles of four outputs, the quad q's, by
// the four inputs 16 i + l of a group, i = 0 to 3, which one dot product of bytes takes together:
//   planes 0 and 1   [4][16 quads][4] words, tile l being word l % 4 of line l / 4
//   planes 2 and 3   the same
//   plane 2 alone    [4][16 quads][2] words, tile l being every other bit, from l % 2 on, of word l / 2 % 2
// In a tile two signs of output o and input i stand at bits 16 (i / 2) + 4 o + 2 (i % 2): a shift and a mask make them
// the selectors with which a byte permutation looks up four weights at a time. An input's table is, by column, its own,
// by block that of its eight outputs and its eight inputs: see PlanePlace.
#include <cstdint>

#include "kernels/cuda/device.h"

namespace pleat {
class PlanesMatrix;
}

namespace pleat::cuda {

constexpr int64_t kPlaneRecordBytes = 64 + 64 * 64 / 8;  // of a plane

// 64 outputs of a checkpoint's matrix, of which some are held here.
struct PlaneBlock {
  int32_t output;       // the first one held here
  int32_t lane, count;  // which of the 64 it is; how many are held
  int32_t by_column;
};

// What a kernel takes.
struct PlaneBlocks {
  const unsigned char* records = nullptr;  // [count][groups]
  const float* units = nullptr;            // [count][groups] 2^e
  const PlaneBlock* blocks = nullptr;      // [count], ascending outputs
  int count = 0;
  const uint16_t* protected_weights = nullptr;  // bf16 [outputs, protected inputs]
};

// A copy on the device.
class PlaneRecords {
 public:
  PlaneRecords() = default;
  PlaneRecords(const PlanesMatrix& matrix, const Stream& stream);
  PlaneBlocks view() const;
  size_t bytes() const { return records_.size() + (units_.size() + protected_weights_.size() / 2) * sizeof(float); }

 private:
  DeviceArray<unsigned char> records_;
  DeviceArray<float> units_;
  DeviceArray<PlaneBlock> blocks_;
  DeviceArray<uint16_t> protected_weights_;
};

}  // namespace pleat::cuda
