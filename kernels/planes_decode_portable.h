#pragma once
// A record of planes (planes_blocks.h) as bytes that the dot products of low-bit kernels take.
#include <cstdint>

namespace pleat {

// A weight's integer sum of +-A_p is twice the sum of its table's scales whose bit is set, which no sign is needed for,
// less the sum of all of them. weights [4][16][64]: the former, byte 4n + i of line q of block b that of output
// 16b + n and input 4q + i. totals [64]: the latter, of each table. All at most 127.
struct PortablePlaneDecoder {
  template <int planes>
  static void decode(const uint8_t* record, bool by_column, uint8_t* weights, uint8_t* totals) {
    for (int table = 0; table < 64; ++table) {
      const uint8_t* const scales = record + planes * table;
      uint8_t sums[1 << planes] = {};
      for (int code = 0; code < 1 << planes; ++code)
        for (int plane = 0; plane < planes; ++plane)
          if (code >> plane & 1) sums[code] = uint8_t(sums[code] + scales[plane]);
      totals[table] = sums[(1 << planes) - 1];
      const uint8_t* const unit = record + 64 * planes + table / 4 * 32 * planes;
      for (int half = 0; half < 2; ++half)
        for (int byte = 0; byte < 32; ++byte) {
          const int output = by_column ? 32 * half + 8 * (byte % 16 / 4) + 4 * (byte / 16) + byte % 4
                                       : 8 * (table / 8) + byte / 4,
                    input = by_column ? table : 8 * (table % 8) + 4 * half + byte % 4;
          weights[output / 16 * 1024 + input / 4 * 64 + output % 16 * 4 + input % 4] =
              sums[code_of<planes>(unit + byte, table % 4, half)];
        }
    }
  }

  // By block, for one row at once: sums [64], the dot products of decoded weights with q [64].
  template <int planes>
  static void dot_blocks(const uint8_t* record, const int8_t* q, int32_t* sums, uint8_t* totals) {
    uint8_t weights[4 * 16 * 64];
    decode<planes>(record, false, weights, totals);
    for (int n = 0; n < 64; ++n) {
      sums[n] = 0;
      for (int k = 0; k < 64; ++k) sums[n] += int32_t(weights[n / 16 * 1024 + k / 4 * 64 + n % 16 * 4 + k % 4]) * q[k];
    }
  }

  // minus [8]: what is to be taken away from twice the dot product of decoded weights with q [64], by eights of
  // outputs.
  static void column_offsets(const uint8_t* totals, const int8_t* q, float* minus) {
    int32_t sum = 0;
    for (int k = 0; k < 64; ++k) sum += int32_t(totals[k]) * q[k];
    for (int eight = 0; eight < 8; ++eight) minus[eight] = float(sum);
  }
  static void block_offsets(const uint8_t* totals, const int8_t* q, float* minus) {
    for (int eight = 0; eight < 8; ++eight) {
      int32_t sum = 0;
      for (int k = 0; k < 64; ++k) sum += int32_t(totals[8 * eight + k / 8]) * q[k];
      minus[eight] = float(sum);
    }
  }

 private:
  template <int planes>
  static int code_of(const uint8_t* unit, int table, int half) {
    if constexpr (planes == 4) return unit[32 * table] >> 4 * half & 15;
    const int low = unit[32 * (table / 2)] >> 2 * (2 * (table % 2) + half) & 3;
    if constexpr (planes == 2) return low;
    return low | (unit[64] >> (2 * table + half) & 1) << 2;
  }
};

}  // namespace pleat
