#pragma once
// How planes are packed for the kernels.
#include <cstdint>

#include "kernels/planes.h"

namespace pleat {

// The record of 64 outputs by 64 inputs: 64 tables of scales, planes bytes each, then 16 units of 32 * planes bytes of
// codes. A unit is 64 outputs by the inputs 4v to 4v + 3 (column; table 4v + c is that of input 4v + c) or the outputs
// 8o to 8o + 7 by half of the inputs (block; unit 2o + u, table 8o + j that of the inputs 8j to 8j + 7, j = 4u + c).
// Each of its 4 tables has 64 codes, in 2 halves h of 32, in the order of bytes in which the look-ups are to stand:
//   column  byte 16l + 4m + i of half h: output 32h + 8m + 4l + i
//   block   byte 4n + i of half h: output 8o + n, input 8j + 4h + i
// 4 planes: 32 bytes a table, half h in bits 4h to 4h + 3. 2 planes: 32 bytes for two tables c, half h of the one that
// is odd (or not) in bits 2 (2 (c % 2) + h) and up. 3 planes: the first two like that, then 32 bytes for the last: bit
// 2c + h.
struct PlanePlace {
  int table, byte, half;

  static PlanePlace of(PlaneScales kind, int output, int input) {
    if (kind == PlaneScales::column) {
      const int in_half = output % 32;
      return {input, 16 * (in_half / 4 % 2) + 4 * (in_half / 8) + in_half % 4, output / 32};
    }
    return {8 * (output / 8) + input / 8, 4 * (output % 8) + input % 4, input / 4 % 2};
  }
};

constexpr int64_t plane_record_bytes(int planes) { return kGroup * planes + kPlaneOutputs * kGroup / 8 * planes; }

// Where plane p of a weight stands in its record.
struct PlaneBit {
  int64_t byte;
  int bit;
  PlaneBit(int planes, PlanePlace place, int plane) {
    const int c = place.table % 4;
    int64_t line;  // of 32 bytes in the unit
    if (planes == 4)
      line = c, bit = 4 * place.half + plane;
    else if (plane < 2)
      line = c / 2, bit = 2 * (2 * (c % 2) + place.half) + plane;
    else
      line = 2, bit = 2 * c + place.half;
    byte = kGroup * planes + (place.table / 4 * planes + line) * 32 + place.byte;
  }
};

}  // namespace pleat
