#pragma once
// A record of planes as bytes, see planes_decode_portable.h: a table is 16 bytes of both halves of a register, and one
// byte shuffle looks up 32 weights.
#include <immintrin.h>

#include <cstdint>

namespace pleat {

struct Avx2PlaneDecoder {
  template <int planes>
  static void decode(const uint8_t* record, bool by_column, uint8_t* weights, uint8_t* totals) {
    if (by_column)
      for (int unit = 0; unit < 16; ++unit) decode_columns<planes>(record, unit, weights, totals);
    else
      for (int unit = 0; unit < 16; ++unit) decode_blocks<planes>(record, unit, weights, totals);
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
  static __m256i load(const uint8_t* p) { return _mm256_loadu_si256((const __m256i*)p); }
  static void store(uint8_t* p, __m256i a) { _mm256_store_si256((__m256i*)p, a); }
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

  // Half of the outputs of four inputs, whose bytes are then put side by side.
  template <int planes, int half>
  static void look_up_columns(const __m256i* tables, const uint8_t* unit, uint8_t* to) {
    const __m256i w0 = _mm256_shuffle_epi8(tables[0], index<planes, 0, half>(unit)),
                  w1 = _mm256_shuffle_epi8(tables[1], index<planes, 1, half>(unit)),
                  w2 = _mm256_shuffle_epi8(tables[2], index<planes, 2, half>(unit)),
                  w3 = _mm256_shuffle_epi8(tables[3], index<planes, 3, half>(unit));
    const __m256i low01 = _mm256_unpacklo_epi8(w0, w1), high01 = _mm256_unpackhi_epi8(w0, w1),
                  low23 = _mm256_unpacklo_epi8(w2, w3), high23 = _mm256_unpackhi_epi8(w2, w3);
    store(to, _mm256_unpacklo_epi16(low01, low23));
    store(to + 32, _mm256_unpackhi_epi16(low01, low23));
    store(to + 1024, _mm256_unpacklo_epi16(high01, high23));
    store(to + 1056, _mm256_unpackhi_epi16(high01, high23));
  }

  template <int planes>
  static void decode_columns(const uint8_t* record, int unit, uint8_t* weights, uint8_t* totals) {
    const uint8_t* const codes = record + 64 * planes + unit * 32 * planes;
    const __m256i tables[4] = {next_table<planes, 0>(record, unit, totals), next_table<planes, 1>(record, unit, totals),
                               next_table<planes, 2>(record, unit, totals),
                               next_table<planes, 3>(record, unit, totals)};
    look_up_columns<planes, 0>(tables, codes, weights + 64 * unit);
    look_up_columns<planes, 1>(tables, codes, weights + 2048 + 64 * unit);
  }

  // 8 outputs of 8 inputs.
  template <int planes, int c>
  static void look_up_block(const uint8_t* record, int unit, const uint8_t* codes, uint8_t* to, uint8_t* totals) {
    const __m256i sums = next_table<planes, c>(record, unit, totals);
    store(to + 128 * c, _mm256_shuffle_epi8(sums, index<planes, c, 0>(codes)));
    store(to + 128 * c + 64, _mm256_shuffle_epi8(sums, index<planes, c, 1>(codes)));
  }

  template <int planes>
  static void decode_blocks(const uint8_t* record, int unit, uint8_t* weights, uint8_t* totals) {
    const uint8_t* const codes = record + 64 * planes + unit * 32 * planes;
    uint8_t* const to = weights + unit / 4 * 1024 + unit / 2 % 2 * 32 + unit % 2 * 512;
    look_up_block<planes, 0>(record, unit, codes, to, totals);
    look_up_block<planes, 1>(record, unit, codes, to, totals);
    look_up_block<planes, 2>(record, unit, codes, to, totals);
    look_up_block<planes, 3>(record, unit, codes, to, totals);
  }
};

}  // namespace pleat
