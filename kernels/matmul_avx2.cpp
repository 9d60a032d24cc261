#include <immintrin.h>

#include <cstring>

#include "kernels/matmul_tile_impl.h"

namespace pleat {
namespace {

struct Avx2 {
  using Reg = __m256;
  static constexpr int kWidth = 8;
  static constexpr int kAccumulators = 12;
  static Reg zero() { return _mm256_setzero_ps(); }
  static Reg load(const float* from) { return _mm256_loadu_ps(from); }
  static void store(float* to, Reg value) { _mm256_storeu_ps(to, value); }
  static Reg broadcast(float value) { return _mm256_set1_ps(value); }
  static Reg multiply_add(Reg a, Reg b, Reg sum) { return _mm256_fmadd_ps(a, b, sum); }
  static Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }

  static constexpr bool kBf16Pairs = false;
  static __m256i load_pairs(const std::byte* pairs) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(pairs));
  }
  static Reg even_bf16(const std::byte* pairs) { return _mm256_castsi256_ps(_mm256_slli_epi32(load_pairs(pairs), 16)); }
  static Reg odd_bf16(const std::byte* pairs) {
    return _mm256_castsi256_ps(_mm256_and_si256(load_pairs(pairs), _mm256_set1_epi32(int(0xffff0000u))));
  }

  static void transpose(const std::byte* from, int64_t stride, int rows, int64_t words, uint32_t* out) {
    int64_t word = 0;
    for (; word + 8 <= words; word += 8)
      for (int row = 0; row < kPanelOutputs; row += 8)
        transpose_8(from + row * stride + word * 4, stride, rows - row, out + word * kPanelOutputs + row);
    for (; word < words; ++word)
      for (int row = 0; row < kPanelOutputs; ++row) {
        uint32_t value = 0;
        if (row < rows) std::memcpy(&value, from + row * stride + word * 4, sizeof value);
        out[word * kPanelOutputs + row] = value;
      }
  }

  static void weave(const std::byte* from, int64_t stride, int64_t pairs, uint32_t* out) {
    const auto words = [](const std::byte* row) {
      return _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row)));
    };
    for (int64_t pair = 0; pair < pairs; ++pair, from += 2 * stride)
      for (int i = 0; i < kPanelOutputs; i += kWidth, out += kWidth)
        _mm256_stream_si256(reinterpret_cast<__m256i*>(out),
                            _mm256_or_si256(words(from + 2 * i), _mm256_slli_epi32(words(from + stride + 2 * i), 16)));
  }

  // Eight words of eight rows, those from `rows` on being zero.
  static void transpose_8(const std::byte* from, int64_t stride, int rows, uint32_t* out) {
    __m256 row[8], pair[8], four[8];
    for (int i = 0; i < 8; ++i)
      row[i] = i < rows ? _mm256_loadu_ps(reinterpret_cast<const float*>(from + i * stride)) : _mm256_setzero_ps();
    for (int i = 0; i < 4; ++i) {
      pair[2 * i] = _mm256_unpacklo_ps(row[2 * i], row[2 * i + 1]);
      pair[2 * i + 1] = _mm256_unpackhi_ps(row[2 * i], row[2 * i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {  // four[i + j]: word j, and j + 4, of rows i to i + 3
      four[i] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0x44);
      four[i + 1] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0xee);
      four[i + 2] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0x44);
      four[i + 3] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0xee);
    }
    for (int j = 0; j < 4; ++j) {
      float* to = reinterpret_cast<float*>(out) + j * kPanelOutputs;
      _mm256_storeu_ps(to, _mm256_permute2f128_ps(four[j], four[j + 4], 0x20));
      _mm256_storeu_ps(to + 4 * kPanelOutputs, _mm256_permute2f128_ps(four[j], four[j + 4], 0x31));
    }
  }
};

}  // namespace

const TileKernels& tile_kernels_avx2() {
  static constexpr TileKernels table = make_tile_kernels<Avx2, 6, 1>();
  return table;
}

}  // namespace pleat
