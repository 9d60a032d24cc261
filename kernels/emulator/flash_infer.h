#pragma once
// What kernels/cuda/language/flash_infer.h says, for the emulator: FlashInfer's own attention, over twins of the three
// headers in which it speaks to the device (mma.cuh, cp_async.cuh, math.cuh). Of what it does not call on this way
// there are declarations, or nothing.
//
// First, before their names are the emulator's macros:
#include <cooperative_groups.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <cuda/pipeline>

#include "async_copy.h"
#include "device_language.h"
#include "tensor_core.h"

// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming): CUDA's and FlashInfer's own names.
namespace cooperative_groups {
struct thread_block {
  void sync(EmulatorPlace place = EmulatorPlace::current()) const { __syncthreads(place); }
};
inline thread_block this_thread_block() { return {}; }
}  // namespace cooperative_groups

inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
template <class T>
T __ldca(const T* from);

namespace flashinfer {

template <class A, class B>
auto max(A a, B b) {
  return std::max<std::common_type_t<A, B>>(a, b);
}
template <class A, class B>
auto min(A a, B b) {
  return std::min<std::common_type_t<A, B>>(a, b);
}

namespace math {
constexpr float log2e = 1.44269504088896340736f, inf = 5e4f;
inline float ptx_exp2(float x) { return std::exp2(x); }
inline float ptx_log2(float x) { return std::log2(x); }
inline float ptx_rcp(float x) { return 1 / x; }
inline float shfl_xor_sync(float x, int lanes) { return __shfl_xor_sync(~0u, x, lanes); }
float tanh(float x);
half2 ptx_exp2(half2 x);
half2 shfl_xor_sync(half2 x, int lanes);
}  // namespace math

namespace cp_async {
enum class SharedMemFillMode { kFillZero, kNoFill };
enum class PrefetchMode { kNoPrefetch, kPrefetch };
inline void commit_group() { pleat::cuda::commit_copies(); }
template <size_t kPending>
void wait_group() {
  pleat::cuda::wait_for_copies<int(kPending)>();
}
template <PrefetchMode, class T>
void load_128b(T* shared, const T* global) {
  pleat::cuda::copy_async<16>(shared, global, 16);
}
template <PrefetchMode, SharedMemFillMode kFill, class T>
void pred_load_128b(T* shared, const T* global, bool exists) {
  if (exists || kFill == SharedMemFillMode::kFillZero) pleat::cuda::copy_async<16>(shared, global, exists ? 16 : 0);
}
}  // namespace cp_async

namespace mma {
enum class MMAMode { kInit, kInplaceUpdate };

inline void ldmatrix_m8n8x4(uint32_t* words, const void* row) {
  pleat::cuda::load_matrices(*reinterpret_cast<unsigned(*)[4]>(words), row);
}
inline void ldmatrix_m8n8x4_trans(uint32_t* words, const void* row) {
  pleat::cuda::load_transposed(*reinterpret_cast<unsigned(*)[4]>(words), row);
}
void ldmatrix_m8n8x4_left_half(uint32_t* words, const void* row);
void ldmatrix_m8n8x4_right_half(uint32_t* words, const void* row);
void ldmatrix_m8n8x4_trans_left_half(uint32_t* words, const void* row);
void ldmatrix_m8n8x4_trans_right_half(uint32_t* words, const void* row);
void stmatrix_m8n8x4(uint32_t* words, void* row);

// c [16, 16] of a [16, 16] and b [16, 16]: two products of 8 columns each.
template <class T, MMAMode kMode = MMAMode::kInplaceUpdate>
void mma_sync_m16n16k16_row_col_f16f16f32(float* c, const uint32_t* a, const uint32_t* b) {
  static_assert(std::is_same_v<T, nv_bfloat16>);
  if constexpr (kMode == MMAMode::kInit) std::fill_n(c, 8, 0.0f);
  for (int half = 0; half < 2; ++half)
    pleat::cuda::multiply_add(*reinterpret_cast<float(*)[4]>(c + 4 * half), *reinterpret_cast<const unsigned(*)[4]>(a),
                              *reinterpret_cast<const unsigned(*)[2]>(b + 2 * half));
}
template <MMAMode kMode = MMAMode::kInplaceUpdate>
void mma_sync_m16n16k16_row_col_f16f16f16(uint32_t* c, const uint32_t* a, const uint32_t* b);

// The sums of a fragment's rows, by a product with ones.
template <class T>
void m16k16_rowsum_f16f16f32(float* sums, const T* rows) {
  static_assert(std::is_same_v<T, nv_bfloat16>);
  constexpr unsigned kOnes[2] = {0x3f803f80, 0x3f803f80};
  float c[4] = {sums[0], 0, sums[1], 0};
  pleat::cuda::multiply_add(c, *reinterpret_cast<const unsigned(*)[4]>(rows), kOnes);
  sums[0] = c[0];
  sums[1] = c[2];
}
}  // namespace mma

}  // namespace flashinfer
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)

#define FLASHINFER_MMA_CUH_
#define FLASHINFER_CP_ASYNC_CUH_
#define FLASHINFER_MATH_CUH_
#define FLASHINFER_CASCADE_CUH_
#define FLASHINFER_RUNTIME_ASSERT(what)
#define __CUDA_ARCH__ 800  // from which on it takes bf16
// Its launches have members of these names, its own kernels read them and have shared memory; none is called.
#pragma push_macro("gridDim")
#pragma push_macro("blockDim")
#pragma push_macro("__shared__")
#undef gridDim
#undef blockDim
#undef __shared__
#define __shared__
namespace flashinfer {
extern const dim3 gridDim, blockDim;
}
#include <flashinfer/attention/default_prefill_params.cuh>
#include <flashinfer/attention/prefill.cuh>
#pragma pop_macro("__shared__")
#pragma pop_macro("blockDim")
#pragma pop_macro("gridDim")
#undef __CUDA_ARCH__
