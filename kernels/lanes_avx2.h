#pragma once
// Sixteen float lanes as two AVX2 registers; see lanes_portable.h.
#include <immintrin.h>

#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/planes_decode_avx2.h"

namespace pleat {

struct Avx2Lanes {
  struct F {
    __m256 low, high;
  };
  struct I {
    __m256i low, high;
  };

  // All ones in the first n of eight lanes.
  static __m256i first(int64_t n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(int(n)), lane);
  }
  static __m256 widen(__m128i bits) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16)); }
  static __m256i rounded_bits(__m256 a) {
    const __m256i bits = _mm256_castps_si256(a);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    return _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q)));
  }

  static F set1(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
  static F set_halves(float low, float high) { return {_mm256_set1_ps(low), _mm256_set1_ps(high)}; }
  static F load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static F load(const bf16* p) {
    return {widen(_mm_loadu_si128((const __m128i*)p)), widen(_mm_loadu_si128((const __m128i*)(p + 8)))};
  }
  static F load(const int8_t* p) {
    const __m128i codes = _mm_loadu_si128((const __m128i*)p);
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes)),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(codes, 8)))};
  }
  static F load_part(const float* p, int64_t n) {
    if (n >= 16) return load(p);
    return {_mm256_maskload_ps(p, first(n)), n > 8 ? _mm256_maskload_ps(p + 8, first(n - 8)) : _mm256_setzero_ps()};
  }
  static F load_part(const bf16* p, int64_t n) {
    if (n >= 16) return load(p);
    bf16 copy[16] = {};
    for (int i = 0; i < 16 && i < n; ++i) copy[i] = p[i];
    return load(copy);
  }
  static F load_part(const int8_t* p, int64_t n) {
    int8_t copy[16] = {};
    for (int i = 0; i < 16 && i < n; ++i) copy[i] = p[i];
    return load(copy);
  }
  static void store(float* p, F a) {
    _mm256_storeu_ps(p, a.low);
    _mm256_storeu_ps(p + 8, a.high);
  }
  static void store(int8_t* p, F a) {
    const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(a.low), _mm256_cvtps_epi32(a.high));
    const __m256i in_order = _mm256_permute4x64_epi64(words, 0xd8);
    _mm_storeu_si128((__m128i*)p,
                     _mm_packs_epi16(_mm256_castsi256_si128(in_order), _mm256_extracti128_si256(in_order, 1)));
  }
  // Masked stores are dear on AMD's processors: whole ones where there are sixteen lanes.
  static void store_part(float* p, F a, int64_t n) {
    if (n >= 16) return store(p, a);
    _mm256_maskstore_ps(p, first(n), a.low);
    if (n > 8) _mm256_maskstore_ps(p + 8, first(n - 8), a.high);
  }
  static void store_part(bf16* p, F a, int64_t n) {
    if (n >= 16) {
      const __m256i words =
          _mm256_packus_epi32(_mm256_srli_epi32(rounded_bits(a.low), 16), _mm256_srli_epi32(rounded_bits(a.high), 16));
      return _mm256_storeu_si256((__m256i*)p, _mm256_permute4x64_epi64(words, 0xd8));
    }
    uint32_t bits[16];
    _mm256_storeu_si256((__m256i*)bits, rounded_bits(a.low));
    _mm256_storeu_si256((__m256i*)(bits + 8), rounded_bits(a.high));
    for (int i = 0; i < 16 && i < n; ++i) p[i].bits = uint16_t(bits[i] >> 16);
  }
  static F round_to_bf16(F a) {
    const __m256i upper = _mm256_set1_epi32(int(0xffff0000u));
    return {_mm256_castsi256_ps(_mm256_and_si256(rounded_bits(a.low), upper)),
            _mm256_castsi256_ps(_mm256_and_si256(rounded_bits(a.high), upper))};
  }

  static F add(F a, F b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
  static F sub(F a, F b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
  static F mul(F a, F b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
  static F div(F a, F b) { return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }
  static F sqrt(F a) { return {_mm256_sqrt_ps(a.low), _mm256_sqrt_ps(a.high)}; }
  static F fma(F a, F b, F c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
  }
  static F max(F a, F b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
  static F abs(F a) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, a.low), _mm256_andnot_ps(sign, a.high)};
  }
  static F select_less(F a, F b, F yes, F no) {
    return {_mm256_blendv_ps(no.low, yes.low, _mm256_cmp_ps(a.low, b.low, _CMP_LT_OQ)),
            _mm256_blendv_ps(no.high, yes.high, _mm256_cmp_ps(a.high, b.high, _CMP_LT_OQ))};
  }
  static F keep_first(F a, int64_t n, float value) {
    const __m256 other = _mm256_set1_ps(value);
    return {_mm256_blendv_ps(other, a.low, _mm256_castsi256_ps(first(n))),
            _mm256_blendv_ps(other, a.high, _mm256_castsi256_ps(first(n - 8)))};
  }
  static __m256 power_of_two(__m256 a) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_castps_si256(a), _mm256_set1_epi32(127)), 23));
  }
  static F power_of_two(F a) { return {power_of_two(a.low), power_of_two(a.high)}; }
  static float sum(F a) {
    const __m256 eight = _mm256_add_ps(a.low, a.high);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
  }
  static F sums(const F* a) {
    float out[16];
    for (int i = 0; i < 16; ++i) out[i] = sum(a[i]);
    return load(out);
  }
  static float first_lane(F a) { return _mm256_cvtss_f32(a.low); }
  static float max_lane(F a) {
    const __m256 eight = _mm256_max_ps(a.low, a.high);
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
  }

  using PlaneDecoder = Avx2PlaneDecoder;
  static constexpr bool kManyRegisters = false;
  static I zero_int() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
  static I load_int(const void* p) {
    return {_mm256_loadu_si256((const __m256i*)p), _mm256_loadu_si256((const __m256i*)p + 1)};
  }
  struct PairSums {
    __m256i of[4];
  };
  static PairSums no_pair_sums() {
    const __m256i zero = _mm256_setzero_si256();
    return {{zero, zero, zero, zero}};
  }
  static void store_pairs(uint8_t* to, I a, I b) {
    __m256i* const out = (__m256i*)to;
    _mm256_store_si256(out, _mm256_unpacklo_epi8(a.low, b.low));  // lanes 0, 1 and 4, 5
    _mm256_store_si256(out + 1, _mm256_unpackhi_epi8(a.low, b.low));
    _mm256_store_si256(out + 2, _mm256_unpacklo_epi8(a.high, b.high));
    _mm256_store_si256(out + 3, _mm256_unpackhi_epi8(a.high, b.high));
  }
  // Pairs cannot saturate: 2 * 127 * 127 < 32768. How many of them can be added neurons_together() says.
  static PairSums add_pairs(PairSums sums, const uint8_t* pairs, uint16_t q) {
    const __m256i both = _mm256_set1_epi16(int16_t(q));
    for (int i = 0; i < 4; ++i)
      sums.of[i] =
          _mm256_add_epi16(sums.of[i], _mm256_maddubs_epi16(_mm256_load_si256((const __m256i*)pairs + i), both));
    return sums;
  }
  static PairSums add_pair(PairSums sums, I a, I b, uint16_t q) {
    const __m256i both = _mm256_set1_epi16(int16_t(q));
    const auto add = [&](int i, __m256i bytes) {
      sums.of[i] = _mm256_add_epi16(sums.of[i], _mm256_maddubs_epi16(bytes, both));
    };
    add(0, _mm256_unpacklo_epi8(a.low, b.low));
    add(1, _mm256_unpackhi_epi8(a.low, b.low));
    add(2, _mm256_unpacklo_epi8(a.high, b.high));
    add(3, _mm256_unpackhi_epi8(a.high, b.high));
    return sums;
  }
  static void add_shifted(int32_t* to, const PairSums& sums, int shift, bool add) {
    const auto put = [&](int64_t at, __m128i eight) {
      __m256i* const p = (__m256i*)to + at;
      const __m256i sum = _mm256_slli_epi32(_mm256_cvtepi16_epi32(eight), shift);
      _mm256_store_si256(p, add ? _mm256_add_epi32(_mm256_load_si256(p), sum) : sum);
    };
    for (int half = 0; half < 2; ++half) {
      const __m256i low = sums.of[2 * half], high = sums.of[2 * half + 1];
      put(4 * half, _mm256_castsi256_si128(low));
      put(4 * half + 1, _mm256_castsi256_si128(high));
      put(4 * half + 2, _mm256_extracti128_si256(low, 1));
      put(4 * half + 3, _mm256_extracti128_si256(high, 1));
    }
  }
  // A 4 by 8 transpose.
  static void load_dealt(const int32_t* from, __m256i& a, __m256i& b, __m256i& c, __m256i& d) {
    const auto lanes = [&](int lane) {  // and 4 more
      return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_load_si128((const __m128i*)from + lane)),
                                     _mm_load_si128((const __m128i*)from + lane + 4), 1);
    };
    const __m256i zero = lanes(0), one = lanes(1), two = lanes(2), three = lanes(3);
    const __m256i low = _mm256_unpacklo_epi32(zero, one), high = _mm256_unpackhi_epi32(zero, one);
    const __m256i low2 = _mm256_unpacklo_epi32(two, three), high2 = _mm256_unpackhi_epi32(two, three);
    a = _mm256_unpacklo_epi64(low, low2), b = _mm256_unpackhi_epi64(low, low2);
    c = _mm256_unpacklo_epi64(high, high2), d = _mm256_unpackhi_epi64(high, high2);
  }
  static void load_dealt(const int32_t* from, I* out) {
    load_dealt(from, out[0].low, out[1].low, out[2].low, out[3].low);
    load_dealt(from + 32, out[0].high, out[1].high, out[2].high, out[3].high);
  }
  template <int shift>
  static I unpack(I a, uint8_t mask) {
    const __m256i bits = _mm256_set1_epi8(char(mask));
    return {_mm256_and_si256(_mm256_srli_epi32(a.low, shift), bits),
            _mm256_and_si256(_mm256_srli_epi32(a.high, shift), bits)};
  }
  // Pairs cannot saturate: 2 * 127 * 127 < 32768.
  static __m256i dot(__m256i acc, __m256i codes, __m256i q) {
    return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(codes, q), _mm256_set1_epi16(1)));
  }
  static I dot(I acc, I codes, const int8_t* q) {
    int32_t bytes;
    __builtin_memcpy(&bytes, q, 4);
    const __m256i four = _mm256_set1_epi32(bytes);
    return {dot(acc.low, codes.low, four), dot(acc.high, codes.high, four)};
  }
  // Pairs cannot saturate: 2 * 128 * 127 < 32768.
  static __m256i dot_around_128(__m256i acc, __m256i codes, __m256i q) {
    const __m256i weights = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
    return dot(acc, _mm256_abs_epi8(weights), _mm256_sign_epi8(q, weights));
  }
  static I start_of_bytes(int32_t) { return zero_int(); }
  static I dot_bytes(I acc, I codes, const int8_t* q) {
    int32_t bytes;
    __builtin_memcpy(&bytes, q, 4);
    const __m256i four = _mm256_set1_epi32(bytes);
    return {dot_around_128(acc.low, codes.low, four), dot_around_128(acc.high, codes.high, four)};
  }
  // Pairs in 16 bits, of which 8 * 2 * 15 * 127 and 16 * 2 * 3 * 127 are below 32768.
  struct Dots {
    __m256i low, high;
  };
  static Dots no_dots() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
  static Dots add_dots(Dots dots, I codes, const int8_t* q) {
    int32_t bytes;
    __builtin_memcpy(&bytes, q, 4);
    const __m256i four = _mm256_set1_epi32(bytes);
    return {_mm256_add_epi16(dots.low, _mm256_maddubs_epi16(codes.low, four)),
            _mm256_add_epi16(dots.high, _mm256_maddubs_epi16(codes.high, four))};
  }
  static I add_dots(I acc, Dots dots) {
    const __m256i ones = _mm256_set1_epi16(1);
    return {_mm256_add_epi32(acc.low, _mm256_madd_epi16(dots.low, ones)),
            _mm256_add_epi32(acc.high, _mm256_madd_epi16(dots.high, ones))};
  }
  static I add_shifted(I a, I b, int shift) {
    return {_mm256_add_epi32(a.low, _mm256_slli_epi32(b.low, shift)),
            _mm256_add_epi32(a.high, _mm256_slli_epi32(b.high, shift))};
  }
  static F to_float(I a) { return {_mm256_cvtepi32_ps(a.low), _mm256_cvtepi32_ps(a.high)}; }
  template <int bits>
  static I spread(const uint8_t* plane) {
    if constexpr (bits == 8) return load_int(plane);
    const __m256i mask = _mm256_set1_epi8((1 << bits) - 1);
    if constexpr (bits == 4) {
      const __m256i codes = _mm256_loadu_si256((const __m256i*)plane);
      return {_mm256_and_si256(codes, mask), _mm256_and_si256(_mm256_srli_epi16(codes, 4), mask)};
    }
    if constexpr (bits == 2) {
      const __m256i codes = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)plane));
      const __m256i low = _mm256_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2), high = _mm256_setr_epi32(4, 4, 4, 4, 6, 6, 6, 6);
      return {_mm256_and_si256(_mm256_srlv_epi32(codes, low), mask),
              _mm256_and_si256(_mm256_srlv_epi32(codes, high), mask)};
    }
    if constexpr (bits == 1) {
      const __m256i codes = _mm256_broadcastq_epi64(_mm_loadl_epi64((const __m128i*)plane));
      const __m256i low = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3), high = _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7);
      return {_mm256_and_si256(_mm256_srlv_epi32(codes, low), mask),
              _mm256_and_si256(_mm256_srlv_epi32(codes, high), mask)};
    }
  }
  static I look_up(I codes, const uint64_t* table) {
    const __m256i bytes = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)table));
    return {_mm256_shuffle_epi8(bytes, codes.low), _mm256_shuffle_epi8(bytes, codes.high)};
  }
  static I dot_lanes(I codes, const int8_t* q) {
    const I bytes = load_int(q);
    return {dot(_mm256_setzero_si256(), codes.low, bytes.low), dot(_mm256_setzero_si256(), codes.high, bytes.high)};
  }
  static I dot_lanes_around_128(I codes, const int8_t* q) {
    const I bytes = load_int(q);
    const __m256i zero = _mm256_setzero_si256();
    return {dot_around_128(zero, codes.low, bytes.low), dot_around_128(zero, codes.high, bytes.high)};
  }
  template <int index>
  static __m256 byte(__m256i a) {
    const __m256i shifted = index == 0 ? a : _mm256_srli_epi32(a, 8 * index);
    return _mm256_cvtepi32_ps(index == 3 ? shifted : _mm256_and_si256(shifted, _mm256_set1_epi32(0xff)));
  }
  template <int index>
  static F byte(I a) {
    return {byte<index>(a.low), byte<index>(a.high)};
  }
  [[gnu::always_inline]] static void prefetch(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T0); }
};

}  // namespace pleat
