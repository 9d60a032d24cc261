#include "product_peak.h"

#include <atomic>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "measure.h"

namespace pleat {
namespace {

constexpr int kSums = 12;  // in flight: more than any processor's latency times its units
constexpr int kTimes = 4'000'000;

// Each returns something that depends on every sum.
float multiply_add_portable() {
  using Vector = float __attribute__((vector_size(16)));
  Vector sums[kSums] = {}, x = {1e-3f, 1e-3f, 1e-3f, 1e-3f}, y = x;
  for (int i = 0; i < kTimes; ++i) {
    for (Vector& sum : sums) sum += x * y;
    asm volatile("" : "+m"(x), "+m"(y));
  }
  for (int i = 1; i < kSums; ++i) sums[0] += sums[i];
  return sums[0][0];
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) float multiply_add_avx2() {
  __m256 sums[kSums], x = _mm256_set1_ps(1e-3f), y = _mm256_set1_ps(1e-3f);
  for (__m256& sum : sums) sum = _mm256_setzero_ps();
  for (int i = 0; i < kTimes; ++i) {
    for (__m256& sum : sums) sum = _mm256_fmadd_ps(x, y, sum);
    asm volatile("" : "+x"(x), "+x"(y));
  }
  for (int i = 1; i < kSums; ++i) sums[0] = _mm256_add_ps(sums[0], sums[i]);
  return _mm256_cvtss_f32(sums[0]);
}

__attribute__((target("avx512f"))) float multiply_add_avx512() {
  __m512 sums[kSums], x = _mm512_set1_ps(1e-3f), y = _mm512_set1_ps(1e-3f);
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  for (int i = 0; i < kTimes; ++i) {
    for (__m512& sum : sums) sum = _mm512_fmadd_ps(x, y, sum);
    asm volatile("" : "+v"(x), "+v"(y));
  }
  for (int i = 1; i < kSums; ++i) sums[0] = _mm512_add_ps(sums[0], sums[i]);
  return _mm512_cvtss_f32(sums[0]);
}

__attribute__((target("avx512f,avx512bf16"))) float dot_pairs_avx512() {
  __m512 sums[kSums];
  __m512i x = _mm512_set1_epi32(0x3a833a83), y = x;  // 1e-3 twice
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  for (int i = 0; i < kTimes; ++i) {
    for (__m512& sum : sums) sum = _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)y);
    asm volatile("" : "+v"(x), "+v"(y));
  }
  for (int i = 1; i < kSums; ++i) sums[0] = _mm512_add_ps(sums[0], sums[i]);
  return _mm512_cvtss_f32(sums[0]);
}

#endif

}  // namespace

double product_peak(Context& ctx, bool bf16_pairs) {
  float (*work)() = multiply_add_portable;
  double operations = 2.0 * 4;  // of an instruction
#if defined(__x86_64__)
  if (ctx.isa() == Isa::avx2) work = multiply_add_avx2, operations = 2.0 * 8;
  if (ctx.isa() >= Isa::avx512) work = multiply_add_avx512, operations = 2.0 * 16;
  if (ctx.isa() >= Isa::avx512 && bf16_pairs) work = dot_pairs_avx512, operations = 2.0 * 32;
#endif
  (void)bf16_pairs;
  std::atomic<float> kept = 0;  // so that nothing can be dropped
  const double start = seconds();
  ctx.team().run([&](int) { kept.store(work(), std::memory_order_relaxed); });
  const double elapsed = seconds() - start;
  return operations * kSums * kTimes * ctx.team().threads() / elapsed;
}

}  // namespace pleat
