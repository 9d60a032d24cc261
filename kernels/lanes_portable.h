#pragma once
// Sixteen float lanes in plain C++. The three Lanes types have the same operations and give the same bits, so a kernel
// written once over them does too. Kernels are templates over a Lanes type and use no inline function that generic code
// also uses: the linker could otherwise pick the copy compiled for a processor this one is not.
#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/planes_decode_portable.h"

namespace pleat {

struct PortableLanes {
  struct F {
    float lane[16];
  };
  struct I {
    uint32_t lane[16];
  };

  template <class Function>
  static F each(Function function) {
    F out;
    for (int i = 0; i < 16; ++i) out.lane[i] = function(i);
    return out;
  }
  template <class Function>
  static I each_int(Function function) {
    I out;
    for (int i = 0; i < 16; ++i) out.lane[i] = function(i);
    return out;
  }

  static F set1(float value) {
    return each([&](int) { return value; });
  }
  // Lanes 0 to 7, and 8 to 15.
  static F set_halves(float low, float high) {
    return each([&](int i) { return i < 8 ? low : high; });
  }
  static F load(const float* p) {
    return each([&](int i) { return p[i]; });
  }
  static F load(const bf16* p) {
    return each([&](int i) { return to_f32(p[i]); });
  }
  static F load(const int8_t* p) {
    return each([&](int i) { return float(p[i]); });
  }
  // The first n <= 16 lanes, the others 0.
  static F load_part(const float* p, int64_t n) {
    return each([&](int i) { return i < n ? p[i] : 0.0f; });
  }
  static F load_part(const bf16* p, int64_t n) {
    return each([&](int i) { return i < n ? to_f32(p[i]) : 0.0f; });
  }
  static F load_part(const int8_t* p, int64_t n) {
    return each([&](int i) { return i < n ? float(p[i]) : 0.0f; });
  }
  static void store(float* p, F a) { store_part(p, a, 16); }
  static void store_part(float* p, F a, int64_t n) {
    for (int i = 0; i < n; ++i) p[i] = a.lane[i];
  }
  // Integers from -128 to 127.
  static void store(int8_t* p, F a) {
    for (int i = 0; i < 16; ++i) p[i] = int8_t(a.lane[i]);
  }
  // Rounded to nearest even; NaN stays NaN.
  static void store_part(bf16* p, F a, int64_t n) {
    for (int i = 0; i < n; ++i) p[i] = to_bf16(a.lane[i]);
  }
  static F round_to_bf16(F a) {
    return each([&](int i) { return to_f32(to_bf16(a.lane[i])); });
  }

  static F add(F a, F b) {
    return each([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  static F sub(F a, F b) {
    return each([&](int i) { return a.lane[i] - b.lane[i]; });
  }
  static F mul(F a, F b) {
    return each([&](int i) { return a.lane[i] * b.lane[i]; });
  }
  static F div(F a, F b) {
    return each([&](int i) { return a.lane[i] / b.lane[i]; });
  }
  static F sqrt(F a) {
    return each([&](int i) { return std::sqrt(a.lane[i]); });
  }
  // a * b + c, rounded once.
  static F fma(F a, F b, F c) {
    return each([&](int i) { return std::fma(a.lane[i], b.lane[i], c.lane[i]); });
  }
  // The second operand where either is NaN.
  static F max(F a, F b) {
    return each([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static F abs(F a) {
    return each([&](int i) { return std::bit_cast<float>(std::bit_cast<uint32_t>(a.lane[i]) & 0x7fffffffu); });
  }
  // yes where a < b, else no.
  static F select_less(F a, F b, F yes, F no) {
    return each([&](int i) { return a.lane[i] < b.lane[i] ? yes.lane[i] : no.lane[i]; });
  }
  // Lanes from n on become `value`.
  static F keep_first(F a, int64_t n, float value) {
    return each([&](int i) { return i < n ? a.lane[i] : value; });
  }
  // 2^n where a is 1.5 * 2^23 + n, -126 <= n <= 127.
  static F power_of_two(F a) {
    return each([&](int i) { return std::bit_cast<float>((std::bit_cast<uint32_t>(a.lane[i]) + 127u) << 23); });
  }
  // Halves are added (maximised) until one lane is left.
  static float sum(F a) {
    for (int half = 8; half > 0; half /= 2)
      for (int i = 0; i < half; ++i) a.lane[i] += a.lane[i + half];
    return a.lane[0];
  }
  // Lane i is sum(a[i]).
  static F sums(const F* a) {
    return each([&](int i) { return sum(a[i]); });
  }
  static float first_lane(F a) { return a.lane[0]; }
  static float max_lane(F a) {
    for (int half = 8; half > 0; half /= 2)
      for (int i = 0; i < half; ++i) a.lane[i] = a.lane[i] > a.lane[i + half] ? a.lane[i] : a.lane[i + half];
    return a.lane[0];
  }

  using PlaneDecoder = PortablePlaneDecoder;
  static constexpr bool kManyRegisters = false;
  static I zero_int() { return I{}; }
  static I load_int(const void* p) {
    const uint8_t* byte = static_cast<const uint8_t*>(p);
    return each_int([&](int i) {
      const uint8_t* b = byte + 4 * i;
      return uint32_t(b[0]) | uint32_t(b[1]) << 8 | uint32_t(b[2]) << 16 | uint32_t(b[3]) << 24;
    });
  }
  // Sums of 64 outputs in 16 bits: of output 16 i + l (byte i of lane l) at [l][i], or wherever suits the processor.
  struct PairSums {
    int16_t of[16][4];
  };
  static PairSums no_pair_sums() { return {}; }
  // to [128]: bytes of a and b side by side, in the order of PairSums.
  static void store_pairs(uint8_t* to, I a, I b) {
    for (int l = 0; l < 16; ++l)
      for (int i = 0; i < 4; ++i) {
        to[8 * l + 2 * i] = uint8_t(a.lane[l] >> 8 * i);
        to[8 * l + 2 * i + 1] = uint8_t(b.lane[l] >> 8 * i);
      }
  }
  // sums + a * (lower byte of q) + b * (upper byte); of bytes of a and b up to 127 and of q from -127.
  static PairSums add_pairs(PairSums sums, const uint8_t* pairs, uint16_t q) {
    for (int l = 0; l < 16; ++l)
      for (int i = 0; i < 4; ++i)
        sums.of[l][i] = int16_t(sums.of[l][i] + pairs[8 * l + 2 * i] * int8_t(q & 0xff) +
                                pairs[8 * l + 2 * i + 1] * int8_t(q >> 8));
    return sums;
  }
  // The same with bytes that do not lie side by side.
  static PairSums add_pair(PairSums sums, I a, I b, uint16_t q) {
    uint8_t pairs[128];
    store_pairs(pairs, a, b);
    return add_pairs(sums, pairs, q);
  }
  // to [16][4], of output 16 i + l at [l][i], = sums << shift, added to what is there or instead of it.
  static void add_shifted(int32_t* to, const PairSums& sums, int shift, bool add) {
    for (int l = 0; l < 16; ++l)
      for (int i = 0; i < 4; ++i) to[4 * l + i] = (add ? to[4 * l + i] : 0) + int32_t(sums.of[l][i]) * (1 << shift);
  }
  // Lane l of out[i] is from[l][i].
  static void load_dealt(const int32_t* from, I* out) {
    for (int i = 0; i < 4; ++i) out[i] = each_int([&](int l) { return uint32_t(from[4 * l + i]); });
  }
  // The bits `mask` of every byte after a shift of each lane to the right.
  template <int shift>
  static I unpack(I a, uint8_t mask) {
    return each_int([&](int i) { return a.lane[i] >> shift & (mask * 0x01010101u); });
  }
  // acc + the dot product of each lane's four unsigned bytes (at most 127) with the four signed bytes at q.
  static I dot(I acc, I codes, const int8_t* q) {
    return each_int([&](int i) {
      int32_t sum = int32_t(acc.lane[i]);
      for (int b = 0; b < 4; ++b) sum += int32_t(codes.lane[i] >> (8 * b) & 0xff) * q[b];
      return uint32_t(sum);
    });
  }
  // From start_of_bytes(sum of q) on, dot_bytes() sums up to the dot product of (codes - 128) and q.
  static I start_of_bytes(int32_t q_sum) {
    return each_int([&](int) { return uint32_t(-128 * q_sum); });
  }
  static I dot_bytes(I acc, I codes, const int8_t* q) { return dot(acc, codes, q); }
  // Sums of dot(), in fewer bits where that saves instructions: 8 of codes below 16, 16 of codes below 4.
  using Dots = I;
  static Dots no_dots() { return zero_int(); }
  static Dots add_dots(Dots dots, I codes, const int8_t* q) { return dot(dots, codes, q); }
  static I add_dots(I acc, Dots dots) { return add_shifted(acc, dots, 0); }
  static I add_shifted(I a, I b, int shift) {  // a + (b << shift)
    return each_int([&](int i) { return a.lane[i] + (b.lane[i] << shift); });
  }
  static F to_float(I a) {
    return each([&](int i) { return float(int32_t(a.lane[i])); });
  }
  // Four codes a lane from a plane of `bits` bits: see low_bit_row.h.
  template <int bits>
  static I spread(const uint8_t* plane) {
    return each_int([&](int i) {
      const uint8_t* b = plane + i % (2 * bits) * 4;
      const uint32_t word = uint32_t(b[0]) | uint32_t(b[1]) << 8 | uint32_t(b[2]) << 16 | uint32_t(b[3]) << 24;
      return word >> bits * (i / (2 * bits)) & ((1u << bits) - 1) * 0x01010101u;
    });
  }
  // Each byte of a code, 0 to 15, becomes that byte of the table.
  static I look_up(I codes, const uint64_t* table) {
    return each_int([&](int i) {
      uint32_t out = 0;
      for (int b = 0; b < 4; ++b) {
        const uint32_t code = codes.lane[i] >> (8 * b) & 15;
        out |= uint32_t(table[code / 8] >> (code % 8 * 8) & 0xff) << (8 * b);
      }
      return out;
    });
  }
  // The dot product of each lane's four unsigned bytes (at most 127) with the same lane's four signed bytes at q [64].
  static I dot_lanes(I codes, const int8_t* q) {
    return each_int([&](int i) {
      int32_t sum = 0;
      for (int b = 0; b < 4; ++b) sum += int32_t(codes.lane[i] >> (8 * b) & 0xff) * q[4 * i + b];
      return uint32_t(sum);
    });
  }
  // The same with 128 taken from each unsigned byte, which may be any; q >= -127.
  static I dot_lanes_around_128(I codes, const int8_t* q) {
    return each_int([&](int i) {
      int32_t sum = 0;
      for (int b = 0; b < 4; ++b) sum += (int32_t(codes.lane[i] >> (8 * b) & 0xff) - 128) * q[4 * i + b];
      return uint32_t(sum);
    });
  }
  template <int index>
  static F byte(I a) {
    return each([&](int i) { return float(a.lane[i] >> (8 * index) & 0xff); });
  }
  // Inlined before anything else, because g++ 12 takes a call of it for one without effect and drops it.
  [[gnu::always_inline]] static void prefetch(const void* p) { __builtin_prefetch(p); }
};

}  // namespace pleat
