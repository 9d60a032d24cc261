#pragma once
// Sixteen float lanes as one AVX-512 register; see lanes_portable.h.
// g++ 12 warns about the deliberately undefined values inside its own intrinsics.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop

#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/planes_decode_avx2.h"

namespace pleat {

struct Avx512Lanes {
  using F = __m512;
  using I = __m512i;

  static __mmask16 first(int64_t n) {
    return n >= 16 ? __mmask16(0xffff) : n <= 0 ? __mmask16(0) : __mmask16((1u << n) - 1);
  }
  static F widen(__m256i bits) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16)); }
  // Not vcvtneps2bf16, which flushes subnormal numbers to zero.
  static I rounded_bits(F a) {
    const I bits = _mm512_castps_si512(a);
    const I odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const I rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    return _mm512_mask_or_epi32(rounded, _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), bits, _mm512_set1_epi32(0x400000));
  }

  static F set1(float value) { return _mm512_set1_ps(value); }
  static F set_halves(float low, float high) { return _mm512_mask_blend_ps(0xff00, set1(low), set1(high)); }
  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static F load(const bf16* p) { return widen(_mm256_loadu_si256((const __m256i*)p)); }
  static F load(const int8_t* p) { return to_float(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p))); }
  static F load_part(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(first(n), p); }
  static F load_part(const bf16* p, int64_t n) { return widen(_mm256_maskz_loadu_epi16(first(n), p)); }
  static F load_part(const int8_t* p, int64_t n) {
    return to_float(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(first(n), p)));
  }
  static void store(float* p, F a) { _mm512_storeu_ps(p, a); }
  static void store(int8_t* p, F a) {
    _mm_storeu_si128((__m128i*)p, _mm512_maskz_cvtepi32_epi8(0xffff, _mm512_maskz_cvtps_epi32(0xffff, a)));
  }
  static void store_part(float* p, F a, int64_t n) { _mm512_mask_storeu_ps(p, first(n), a); }
  static void store_part(bf16* p, F a, int64_t n) {
    _mm256_mask_storeu_epi16(p, first(n), _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded_bits(a), 16)));
  }
  static F round_to_bf16(F a) {
    return _mm512_castsi512_ps(_mm512_and_si512(rounded_bits(a), _mm512_set1_epi32(int(0xffff0000u))));
  }

  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F div(F a, F b) { return _mm512_div_ps(a, b); }
  static F sqrt(F a) { return _mm512_maskz_sqrt_ps(0xffff, a); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F max(F a, F b) { return _mm512_maskz_max_ps(0xffff, a, b); }
  static F abs(F a) {
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(0x7fffffff)));
  }
  static F select_less(F a, F b, F yes, F no) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
  }
  static F keep_first(F a, int64_t n, float value) { return _mm512_mask_blend_ps(first(n), _mm512_set1_ps(value), a); }
  static F power_of_two(F a) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_castps_si512(a), _mm512_set1_epi32(127)), 23));
  }
  template <int index>
  static __m256 half(F a) {
    return _mm512_maskz_extractf32x8_ps(0xff, a, index);
  }
  static float sum(F a) {
    const __m256 eight = _mm256_add_ps(half<0>(a), half<1>(a));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
  }
  // Four rounds halve the number of lanes to add for each of the sixteen and, two vectors at a time, the number of
  // vectors.
  static F sums(const F* a) {
    F half[8], quarter[4], pair[2];
    for (int i = 0; i < 8; ++i) {  // of the vectors i / 2 + 8 (i % 2) and 4 further on
      const F x = a[i / 2 + 8 * (i % 2)], y = a[i / 2 + 8 * (i % 2) + 4];
      half[i] = _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x44), _mm512_shuffle_f32x4(x, y, 0xee));
    }
    for (int i = 0; i < 4; ++i) {
      const F x = half[2 * i], y = half[2 * i + 1];
      quarter[i] = _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x88), _mm512_shuffle_f32x4(x, y, 0xdd));
    }
    for (int i = 0; i < 2; ++i) {
      const F x = quarter[2 * i], y = quarter[2 * i + 1];
      pair[i] = _mm512_add_ps(_mm512_shuffle_ps(x, y, 0x44), _mm512_shuffle_ps(x, y, 0xee));
    }
    return _mm512_add_ps(_mm512_shuffle_ps(pair[0], pair[1], 0x88), _mm512_shuffle_ps(pair[0], pair[1], 0xdd));
  }
  static float first_lane(F a) { return _mm512_cvtss_f32(a); }
  static float max_lane(F a) {
    const __m256 eight = _mm256_max_ps(half<0>(a), half<1>(a));
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
  }

  using PlaneDecoder = Avx2PlaneDecoder;
  static constexpr bool kManyRegisters = true;
  static I zero_int() { return _mm512_setzero_si512(); }
  static I load_int(const void* p) { return _mm512_loadu_si512(p); }
  struct PairSums {
    I of[2];
  };
  static PairSums no_pair_sums() { return {{zero_int(), zero_int()}}; }
  static void store_pairs(uint8_t* to, I a, I b) {
    _mm512_store_si512(to, _mm512_unpacklo_epi8(a, b));  // lanes 0, 1; 4, 5; 8, 9; 12, 13
    _mm512_store_si512(to + 64, _mm512_unpackhi_epi8(a, b));
  }
  // Pairs cannot saturate: 2 * 127 * 127 < 32768. How many of them can be added neurons_together() says.
  static PairSums add_pairs(PairSums sums, const uint8_t* pairs, uint16_t q) {
    const I both = _mm512_set1_epi16(int16_t(q));
    for (int i = 0; i < 2; ++i)
      sums.of[i] = _mm512_add_epi16(sums.of[i], _mm512_maddubs_epi16(_mm512_load_si512(pairs + 64 * i), both));
    return sums;
  }
  static PairSums add_pair(PairSums sums, I a, I b, uint16_t q) {
    const I both = _mm512_set1_epi16(int16_t(q));
    sums.of[0] = _mm512_add_epi16(sums.of[0], _mm512_maddubs_epi16(_mm512_unpacklo_epi8(a, b), both));
    sums.of[1] = _mm512_add_epi16(sums.of[1], _mm512_maddubs_epi16(_mm512_unpackhi_epi8(a, b), both));
    return sums;
  }
  static void add_shifted(int32_t* to, const PairSums& sums, int shift, bool add) {
    const auto put = [&](int64_t at, __m256i sixteen) {
      int32_t* const p = to + 16 * at;
      const I sum = _mm512_slli_epi32(_mm512_cvtepi16_epi32(sixteen), unsigned(shift));
      _mm512_store_si512(p, add ? _mm512_add_epi32(_mm512_load_si512(p), sum) : sum);
    };
    // Quarters of the two are taken in turn.
    const I first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    const I low = _mm512_permutex2var_epi64(sums.of[0], first, sums.of[1]);
    const I high = _mm512_permutex2var_epi64(sums.of[0], second, sums.of[1]);
    put(0, _mm512_maskz_extracti64x4_epi64(0xff, low, 0));
    put(1, _mm512_maskz_extracti64x4_epi64(0xff, low, 1));
    put(2, _mm512_maskz_extracti64x4_epi64(0xff, high, 0));
    put(3, _mm512_maskz_extracti64x4_epi64(0xff, high, 1));
  }
  static void load_dealt(const int32_t* from, I* out) {
    const I place = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60);
    for (int i = 0; i < 4; ++i) out[i] = _mm512_mask_i32gather_epi32(zero_int(), 0xffff, place, from + i, 4);
  }
  template <int shift>
  static I unpack(I a, uint8_t mask) {
    return _mm512_and_si512(_mm512_srli_epi32(a, shift), _mm512_set1_epi8(char(mask)));
  }
  // In assembler: GCC 12 otherwise loads the broadcast and spills accumulators.
  static I dot(I acc, I codes, const int8_t* q) {
    asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(codes), "m"(*(const int8_t(*)[4])q));
    return acc;
  }
  static I start_of_bytes(int32_t q_sum) { return _mm512_set1_epi32(-128 * q_sum); }
  static I dot_bytes(I acc, I codes, const int8_t* q) { return dot(acc, codes, q); }
  using Dots = I;
  static Dots no_dots() { return zero_int(); }
  static Dots add_dots(Dots dots, I codes, const int8_t* q) { return dot(dots, codes, q); }
  static I add_dots(I acc, Dots dots) { return _mm512_add_epi32(acc, dots); }
  static I add_shifted(I a, I b, int shift) { return _mm512_add_epi32(a, _mm512_slli_epi32(b, unsigned(shift))); }
  static F to_float(I a) { return _mm512_maskz_cvtepi32_ps(0xffff, a); }
  template <int bits>
  static I spread(const uint8_t* plane) {
    if constexpr (bits == 8) return load_int(plane);
    const I mask = _mm512_set1_epi8((1 << bits) - 1);
    if constexpr (bits == 4) {
      const I shift = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 4, 4, 4, 4, 4, 4, 4, 4);
      const I codes = _mm512_maskz_broadcast_i64x4(0xff, _mm256_loadu_si256((const __m256i*)plane));
      return _mm512_and_si512(_mm512_maskz_srlv_epi32(0xffff, codes, shift), mask);
    }
    if constexpr (bits == 2) {
      const I shift = _mm512_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2, 4, 4, 4, 4, 6, 6, 6, 6);
      const I codes = _mm512_maskz_broadcast_i32x4(0xffff, _mm_loadu_si128((const __m128i*)plane));
      return _mm512_and_si512(_mm512_maskz_srlv_epi32(0xffff, codes, shift), mask);
    }
    if constexpr (bits == 1) {
      const I shift = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
      const I codes = _mm512_maskz_broadcastq_epi64(0xff, _mm_loadl_epi64((const __m128i*)plane));
      return _mm512_and_si512(_mm512_maskz_srlv_epi32(0xffff, codes, shift), mask);
    }
  }
  static I look_up(I codes, const uint64_t* table) {
    const I bytes = _mm512_maskz_broadcast_i32x4(0xffff, _mm_loadu_si128((const __m128i*)table));
    return _mm512_shuffle_epi8(bytes, codes);
  }
  static I dot_lanes(I codes, const int8_t* q) { return _mm512_dpbusd_epi32(zero_int(), codes, load_int(q)); }
  static I dot_lanes_around_128(I codes, const int8_t* q) {
    return _mm512_sub_epi32(dot_lanes(codes, q), dot_lanes(_mm512_set1_epi8(-128), q));
  }
  template <int index>
  static F byte(I a) {
    return to_float(_mm512_and_si512(_mm512_srli_epi32(a, 8 * index), _mm512_set1_epi32(0xff)));
  }
  [[gnu::always_inline]] static void prefetch(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T0); }
};

}  // namespace pleat
