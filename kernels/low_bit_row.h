#pragma once
// A neuron's row in 2 to 6 or 8 bits a weight, one piece of memory:
//   codes [groups of 64 weights][8 * bits bytes], scales [groups], minimums [groups] (none at 8 bits), of planes their
//   scales [groups][planes] up to an even number of bytes, the weights of protected inputs; scales, minimums and
//   weights bf16. 32 bytes past its end must be readable.
// A group's codes are cut into planes of 4, 2 and 1 bits (the binary digits of `bits`, the lowest bits of a code in the
// widest plane, which comes first), or one of 8. A plane of b bits is 2 b words of 32 bits: byte i of word l % 2b
// holds, at bits b (l / 2b), that of weight 16 i + l. So lane l of 16 gets four codes, which are 4 terms of a dot
// product (with activations in the same order, byte 4 l + i holding number 16 i + l) or, byte i of all lanes, 16
// outputs side by side.
//
// Rows of binary-coded planes (planes.h), whose scales are shared by one output and 64 inputs (those of LUT-GEMM, arXiv
// 2206.09557): W = 2^e sum_p A_p b_p is held as a low-bit weight whose code is the integer sum_p A_p [b_p = +1], at
// most kPlaneLimit, looked up by the signs' bits; scale = 2^(e+1), minimum = -2^e sum_p A_p. 5, 3.875 and 2.75 bits a
// weight with 4, 3 and 2 planes.
#include <cstdint>

#include "kernels/dtype.h"

namespace pleat {

// The next `count` <= 64 codes of a row as checkpoints store them (LowBitMatrix::pack), from the first bit of a byte
// on; zeros after them.
void read_group(const uint8_t* row, int64_t count, int bits, uint8_t (&codes)[64]);
// A group's 64 codes to its 8 * bits bytes.
void write_group(const uint8_t (&codes)[64], int bits, uint8_t* group);

struct LowBitRow {
  const uint8_t* codes = nullptr;
  const bf16* scales = nullptr;
  const bf16* minimums = nullptr;   // anything at 8 bits
  const uint8_t* planes = nullptr;  // A_p [groups][bits]; nullptr: the codes are what they say

  // The row from a group on.
  LowBitRow from(int bits, int64_t group) const {
    return {codes + group * 8 * bits, scales + group, minimums + group, planes ? planes + group * bits : nullptr};
  }
  // The same place `rows` rows further on.
  LowBitRow down(int64_t row_bytes, int64_t rows) const {
    const auto moved = [&](auto* p) {
      return reinterpret_cast<decltype(p)>(reinterpret_cast<const char*>(p) + rows * row_bytes);
    };
    return {moved(codes), moved(scales), moved(minimums), planes ? moved(planes) : nullptr};
  }
};

}  // namespace pleat
