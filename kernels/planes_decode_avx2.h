#pragma once
// A record of planes as bytes, see planes_decode_portable.h: a table is 16 bytes of both halves of a register, and one
// byte shuffle looks up 32 weights.
#include <immintrin.h>

#include <cstdint>

namespace pleat {

struct Avx2PlaneDecoder {
  template <int planes>
  static void decode(const uint8_t* record, bool by_column, uint8_t* weights, uint8_t* totals) {
    const auto store = [&](int eight, int quad, __m256i w) __attribute__((always_inline)) {
      _mm256_store_si256((__m256i*)(weights + eight / 2 * 1024 + 64 * quad + eight % 2 * 32), w);
    };
    if (by_column)
      for (int quad = 0; quad < 16; ++quad) look_up_columns<planes>(record, quad, totals, store);
    else
      for (int eight = 0; eight < 8; ++eight) look_up_blocks<planes>(record, eight, totals, store);
  }

  template <int planes>
  static void dot_blocks(const uint8_t* record, const int8_t* q, int32_t* sums, uint8_t* totals) {
    for (int eight = 0; eight < 8; ++eight) {
      __m256i sum = _mm256_setzero_si256();
      const auto add = [&](int, int quad, __m256i w) __attribute__((always_inline)) {
        int four;
        __builtin_memcpy(&four, q + 4 * quad, 4);
        const __m256i pairs = _mm256_maddubs_epi16(w, _mm256_set1_epi32(four));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
      };
      look_up_blocks<planes>(record, eight, totals, add);
      _mm256_storeu_si256((__m256i*)(sums + 8 * eight), sum);
    }
  }

  static void column_offsets(const uint8_t* totals, const int8_t* q, float* minus) {
    const __m256i one = _mm256_set1_epi16(1);
    const __m256i first = _mm256_maddubs_epi16(load(totals), load(q)),
                  second = _mm256_maddubs_epi16(load(totals + 32), load(q + 32));
    __m256i sum = _mm256_add_epi32(_mm256_madd_epi16(first, one), _mm256_madd_epi16(second, one));
    sum = _mm256_add_epi32(sum, _mm256_permute2x128_si256(sum, sum, 1));
    sum = _mm256_add_epi32(sum, _mm256_shuffle_epi32(sum, 0x4e));
    sum = _mm256_add_epi32(sum, _mm256_shuffle_epi32(sum, 0xb1));
    _mm256_store_ps(minus, _mm256_cvtepi32_ps(sum));
  }

  static void block_offsets(const uint8_t* totals, const int8_t* q, float* minus) {
    const __m256i one = _mm256_set1_epi8(1);
    const __m256i fours =
        _mm256_hadd_epi16(_mm256_maddubs_epi16(one, load(q)), _mm256_maddubs_epi16(one, load(q + 32)));
    // Sums of eight, those of the inputs 0 to 15, 32 to 47 in the first half: put in order in both.
    const __m256i eights =
        _mm256_permutevar8x32_epi32(_mm256_hadd_epi16(fours, fours), _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5));
    const auto product = [&](int i) {  // of two eights of outputs, one in each half, in four parts
      const __m128i two = _mm_loadu_si128((const __m128i*)(totals + 16 * i));
      return _mm256_madd_epi16(_mm256_cvtepu8_epi16(two), eights);
    };
    const __m256i sums =
        _mm256_hadd_epi32(_mm256_hadd_epi32(product(0), product(1)), _mm256_hadd_epi32(product(2), product(3)));
    _mm256_store_ps(minus,
                    _mm256_cvtepi32_ps(_mm256_permutevar8x32_epi32(sums, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))));
  }

  // The sums of the scales that an index chooses, in both halves: of planes 0 and 1 at bytes 4 (index % 4) of `sums`,
  // of the others 2 bytes further, at index / 4.
  template <int planes>
  static __m256i table(const uint8_t* scales) {
    int four;  // scales; with fewer planes those of the next table, or codes, follow, and count nothing
    __builtin_memcpy(&four, scales, 4);
    const __m128i chosen = planes == 4   ? _mm_setr_epi8(0, 0, 0, 0, 1, 0, 1, 0, 0, 1, 0, 1, 1, 1, 1, 1)
                           : planes == 3 ? _mm_setr_epi8(0, 0, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 1, 1, 1, 0)
                                         : _mm_setr_epi8(0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 1, 1, 0, 0);
    const __m256i sums = _mm256_maddubs_epi16(_mm256_set1_epi32(four), _mm256_broadcastsi128_si256(chosen));
    const __m128i low = _mm_setr_epi8(0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
    const __m128i high = _mm_setr_epi8(2, 2, 2, 2, 6, 6, 6, 6, 10, 10, 10, 10, 14, 14, 14, 14);
    return _mm256_add_epi8(_mm256_shuffle_epi8(sums, _mm256_broadcastsi128_si256(low)),
                           _mm256_shuffle_epi8(sums, _mm256_broadcastsi128_si256(high)));
  }

  // The codes of half `half` of a unit's table.
  template <int planes, int table, int half>
  static __m256i index(const uint8_t* unit) {
    if constexpr (planes == 4) return bits<4 * half>(load(unit + 32 * table), 15);
    const __m256i low = bits<2 * (2 * (table % 2) + half)>(load(unit + 32 * (table / 2)), 3);
    if constexpr (planes == 2) return low;
    constexpr int bit = 2 * table + half;
    const __m256i last = load(unit + 64);
    if constexpr (bit >= 2)
      return _mm256_or_si256(low, bits<bit - 2>(last, 4));
    else
      return _mm256_or_si256(low, _mm256_and_si256(_mm256_slli_epi16(last, 2 - bit), _mm256_set1_epi8(4)));
  }

 private:
  static __m256i load(const void* p) { return _mm256_loadu_si256((const __m256i*)p); }
  template <int shift>
  static __m256i bits(__m256i a, char mask) {
    return _mm256_and_si256(_mm256_srli_epi16(a, shift), _mm256_set1_epi8(mask));
  }

  template <int planes, int c>
  static __m256i next_table(const uint8_t* record, int unit, uint8_t* totals) {
    const __m256i sums = table<planes>(record + planes * (4 * unit + c));
    totals[4 * unit + c] = uint8_t(_mm_extract_epi8(_mm256_castsi256_si128(sums), (1 << planes) - 1));
    return sums;
  }

  // use(eight, quad, 32 bytes): weights of the outputs 8 eight and up by the inputs 4 quad and up.
  // Of half of the outputs by four inputs, whose bytes are put side by side.
  template <int planes, int half, class Use>
  [[gnu::always_inline]] static void look_up_half(const __m256i* tables, const uint8_t* unit, int quad, Use use) {
    const __m256i w0 = _mm256_shuffle_epi8(tables[0], index<planes, 0, half>(unit)),
                  w1 = _mm256_shuffle_epi8(tables[1], index<planes, 1, half>(unit)),
                  w2 = _mm256_shuffle_epi8(tables[2], index<planes, 2, half>(unit)),
                  w3 = _mm256_shuffle_epi8(tables[3], index<planes, 3, half>(unit));
    const __m256i low01 = _mm256_unpacklo_epi8(w0, w1), high01 = _mm256_unpackhi_epi8(w0, w1),
                  low23 = _mm256_unpacklo_epi8(w2, w3), high23 = _mm256_unpackhi_epi8(w2, w3);
    use(4 * half, quad, _mm256_unpacklo_epi16(low01, low23));
    use(4 * half + 1, quad, _mm256_unpackhi_epi16(low01, low23));
    use(4 * half + 2, quad, _mm256_unpacklo_epi16(high01, high23));
    use(4 * half + 3, quad, _mm256_unpackhi_epi16(high01, high23));
  }

  template <int planes, class Use>
  [[gnu::always_inline]] static void look_up_columns(const uint8_t* record, int quad, uint8_t* totals, Use use) {
    const uint8_t* const codes = record + 64 * planes + quad * 32 * planes;
    const __m256i tables[4] = {next_table<planes, 0>(record, quad, totals), next_table<planes, 1>(record, quad, totals),
                               next_table<planes, 2>(record, quad, totals),
                               next_table<planes, 3>(record, quad, totals)};
    look_up_half<planes, 0>(tables, codes, quad, use);
    look_up_half<planes, 1>(tables, codes, quad, use);
  }

  // 8 outputs by 8 inputs.
  template <int planes, int c, class Use>
  [[gnu::always_inline]] static void look_up_block(const uint8_t* record, int unit, uint8_t* totals, Use use) {
    const uint8_t* const codes = record + 64 * planes + unit * 32 * planes;
    const __m256i sums = next_table<planes, c>(record, unit, totals);
    const int quad = unit % 2 * 8 + 2 * c;
    use(unit / 2, quad, _mm256_shuffle_epi8(sums, index<planes, c, 0>(codes)));
    use(unit / 2, quad + 1, _mm256_shuffle_epi8(sums, index<planes, c, 1>(codes)));
  }

  template <int planes, class Use>
  [[gnu::always_inline]] static void look_up_blocks(const uint8_t* record, int eight, uint8_t* totals, Use use) {
    for (int unit = 2 * eight; unit < 2 * eight + 2; ++unit) {
      look_up_block<planes, 0>(record, unit, totals, use);
      look_up_block<planes, 1>(record, unit, totals, use);
      look_up_block<planes, 2>(record, unit, totals, use);
      look_up_block<planes, 3>(record, unit, totals, use);
    }
  }
};

}  // namespace pleat
