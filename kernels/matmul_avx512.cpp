#include <immintrin.h>

#include "kernels/matmul_tile_impl.h"

namespace pleat {
namespace {

struct Avx512 {
  using Reg = __m512;
  static constexpr int kWidth = 16;
  static constexpr int kAccumulators = 24;
  static Reg zero() { return _mm512_setzero_ps(); }
  static Reg load(const float* from) { return _mm512_loadu_ps(from); }
  static void store(float* to, Reg value) { _mm512_storeu_ps(to, value); }
  static Reg broadcast(float value) { return _mm512_set1_ps(value); }
  static Reg multiply_add(Reg a, Reg b, Reg sum) { return _mm512_fmadd_ps(a, b, sum); }
  static Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }

  static constexpr bool kBf16Pairs = false;
  static Reg even_bf16(const std::byte* pairs) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(pairs), 16));
  }
  static Reg odd_bf16(const std::byte* pairs) {
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(pairs), _mm512_set1_epi32(int(0xffff0000u))));
  }

  static void transpose(const std::byte* from, int64_t stride, int rows, int64_t words, uint32_t* out);

  static void weave(const std::byte* from, int64_t stride, int64_t pairs, uint32_t* out) {
    const auto words = [](const std::byte* row) {
      return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row)));
    };
    for (int64_t pair = 0; pair < pairs; ++pair, from += 2 * stride)
      for (int i = 0; i < kPanelOutputs; i += kWidth, out += kWidth)
        _mm512_stream_si512(reinterpret_cast<__m512i*>(out),
                            _mm512_or_si512(words(from + 2 * i), _mm512_slli_epi32(words(from + stride + 2 * i), 16)));
  }
};

struct Avx512Dot : Avx512 {
  static constexpr bool kBf16Pairs = true;
  template <int kRows, int kVectors>
  static void add_dot_products(const std::byte* x, const std::byte* const (&w)[kVectors], int64_t offset,
                               Reg (&sums)[kRows][kVectors]) {
    __m512bh weight[kVectors];
    for (int j = 0; j < kVectors; ++j) weight[j] = (__m512bh)_mm512_loadu_si512(w[j] + offset);
    for (int m = 0; m < kRows; ++m) {
      const __m512bh value = (__m512bh)_mm512_set1_epi32(reinterpret_cast<const int*>(x)[m]);
      for (int j = 0; j < kVectors; ++j) sums[m][j] = _mm512_dpbf16_ps(sums[m][j], weight[j], value);
    }
  }
};

// 16 x 16 words: interleave words, then pairs, then 128-bit quarters.
inline void transpose_16(const std::byte* from, int64_t stride, int rows, __mmask16 columns, __m512i (&out)[16]) {
  __m512i r[16], t[16];
  for (int i = 0; i < 16; ++i) r[i] = _mm512_maskz_loadu_epi32(i < rows ? columns : __mmask16(0), from + i * stride);
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  // r[4 g + c], quarter q: rows 4 g .. 4 g + 3 of column 4 q + c.
  for (int c = 0; c < 4; ++c) {
    const __m512i low01 = _mm512_shuffle_i32x4(r[c], r[4 + c], 0x88);   // quarters 0, 2 of groups 0 and 1
    const __m512i high01 = _mm512_shuffle_i32x4(r[c], r[4 + c], 0xdd);  // quarters 1, 3
    const __m512i low23 = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0x88);
    const __m512i high23 = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0xdd);
    out[c] = _mm512_shuffle_i32x4(low01, low23, 0x88);
    out[4 + c] = _mm512_shuffle_i32x4(high01, high23, 0x88);
    out[8 + c] = _mm512_shuffle_i32x4(low01, low23, 0xdd);
    out[12 + c] = _mm512_shuffle_i32x4(high01, high23, 0xdd);
  }
}

void Avx512::transpose(const std::byte* from, int64_t stride, int rows, int64_t words, uint32_t* out) {
  for (int64_t word = 0; word < words; word += 16) {
    const int count = words - word < 16 ? int(words - word) : 16;
    for (int half = 0; half < 2; ++half) {
      __m512i columns[16];
      transpose_16(from + half * 16 * stride + word * 4, stride, rows - half * 16, __mmask16((1u << count) - 1),
                   columns);
      for (int i = 0; i < count; ++i) _mm512_storeu_si512(out + (word + i) * kPanelOutputs + half * 16, columns[i]);
    }
  }
}

}  // namespace

const TileKernels& tile_kernels_avx512() {
  static constexpr TileKernels table = make_tile_kernels<Avx512, kMaxTileRows, 6>();
  return table;
}

const TileKernels& tile_kernels_avx512_dot() {
  static constexpr TileKernels table = [] {
    TileKernels dot = make_tile_kernels<Avx512, kMaxTileRows, 6>();
    dot.bf16_pairs = true;
    fill<Avx512Dot, Bf16Weights, 1, kMaxTileRows>(dot.one[1]);
    fill<Avx512Dot, Bf16Weights, 2, 6>(dot.pair[1]);
    return dot;
  }();
  return table;
}

}  // namespace pleat
