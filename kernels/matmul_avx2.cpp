#include <immintrin.h>

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
    for (int64_t word = 0; word < words; ++word) {
      for (int row = 0; row < kPanelOutputs; ++row) {
        const std::byte* at = from + row * stride + word * 4;
        out[word * kPanelOutputs + row] = row < rows ? *reinterpret_cast<const uint32_t*>(at) : 0;
      }
    }
  }
};

}  // namespace

const TileKernels& tile_kernels_avx2() {
  static constexpr TileKernels table = make_tile_kernels<Avx2, 6, 1>();
  return table;
}

}  // namespace pleat
