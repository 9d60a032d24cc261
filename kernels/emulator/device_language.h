#pragma once
// What a .cu file is written in, compiled by the host's compiler: see kernels/cuda/language/device_language.h, which
// says the same for nvcc. Threads run in block.h; the runtime's functions are in runtime.cpp.
#include <cuda_runtime_api.h>

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __constant__
#undef __launch_bounds__
#undef __forceinline__
#define __global__
#define __device__
#define __host__
#define __constant__
#define __launch_bounds__(...)
#define __forceinline__ inline
#define __shared__ static thread_local  // a block stays on one OS thread, which runs one block at a time

#include <cuda_bf16.h>

#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <tuple>
#include <type_traits>

#include "kernels/cuda/runtime_check.h"
#include "kernels/cuda/shared_memory.h"
#include "kernels/emulator/block.h"
#include "kernels/emulator/runtime.h"

namespace pleat::cuda {

using std::isfinite;  // among CUDA's own functions
using std::isnan;

// Without a constructor, so that nothing about its storage is decided while threads of a kernel run.
template <class T, int kCount>
class SharedArray {
 public:
  T& operator[](int i) {
    if (i < 0 || i >= kCount) out_of_bounds(i);
    return data()[i];
  }
  T* data() { return static_cast<T*>(emulator::shared_memory(owner_, bytes_, sizeof bytes_)); }

 private:
  [[noreturn]] static void out_of_bounds(int i) {
    const std::string what = concat("index ", i, " of a shared array of ", kCount);
    emulator::fail(what.c_str(), emulator::Block::current().block->grid().launched);
  }
  uint64_t owner_;
  alignas(16) unsigned char bytes_[emulator::kSharedGuard + sizeof(T) * kCount + emulator::kSharedGuard];
};

template <class T>
T* dynamic_shared() {
  return static_cast<T*>(emulator::Block::current().block->dynamic_shared());
}

struct Launch {
  dim3 grid, block;
  size_t shared = 0;
  cudaStream_t stream = nullptr;
  bool cooperative = false;
  bool overlaps = false;
  emulator::Place launched = emulator::Place::current();
};

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), const Launch& how, Arguments... arguments) {
  const emulator::Grid grid{how.grid,        how.block,    how.shared,  how.shared > kDynamicWithoutAsking,
                            how.cooperative, how.overlaps, how.launched};
  check(emulator::can_launch(grid) ? cudaSuccess : cudaErrorInvalidConfiguration, "a kernel did not start");
  check(emulator::enqueue(how.stream,
                          [=, values = std::tuple<Parameters...>(Parameters(arguments)...)] {
                            emulator::run_grid(grid, [&] { std::apply(kernel, values); });
                          }),
        "a kernel did not start");
}

template <class... Parameters, class... Arguments>
void launch_overlapping(void (*kernel)(Parameters...), Launch how, Arguments... arguments) {
  how.overlaps = true;
  launch(kernel, how, arguments...);
}

// Grids run one after the other here.
inline void wait_for_previous() { emulator::Block::wait_for_previous(); }
inline void let_next_start() {}
inline void prefetch(const void*) {}

inline void store_release(unsigned* to, unsigned value) { __atomic_store_n(to, value, __ATOMIC_RELEASE); }
inline unsigned load_acquire(const unsigned* from) { return __atomic_load_n(from, __ATOMIC_ACQUIRE); }
inline void store_relaxed(uint64_t* to, uint64_t value) { __atomic_store_n(to, value, __ATOMIC_RELAXED); }
inline void store_relaxed(uint64_t* to, uint64_t first, uint64_t second) {
  store_relaxed(to, first);
  store_relaxed(to + 1, second);
}
inline uint64_t load_relaxed(const uint64_t* from) { return __atomic_load_n(from, __ATOMIC_RELAXED); }
inline void load_relaxed(const uint64_t* from, uint64_t& first, uint64_t& second) {
  first = load_relaxed(from);
  second = load_relaxed(from + 1);
}
inline unsigned add_acquire_release(unsigned* to, unsigned value) {
  return __atomic_fetch_add(to, value, __ATOMIC_ACQ_REL);
}

}  // namespace pleat::cuda

namespace pleat::emulator {

template <class T>
T shuffle(unsigned mask, T value, unsigned source, Place place) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = Block::current().block->warp_op(WarpOp::shuffle, mask, bits, source, place);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace pleat::emulator

// NOLINTBEGIN(bugprone-reserved-identifier): CUDA's own names.
#define threadIdx (::pleat::emulator::Block::current().index)
#define blockIdx (::pleat::emulator::Block::current().block->index())
#define blockDim (::pleat::emulator::Block::current().block->grid().threads)
#define gridDim (::pleat::emulator::Block::current().block->grid().blocks)
constexpr int warpSize = 32;

using EmulatorPlace = ::pleat::emulator::Place;

inline void __syncthreads(EmulatorPlace place = EmulatorPlace::current()) {
  ::pleat::emulator::Block::current().block->barrier(place);
}
inline void __syncwarp(unsigned mask = ~0u, EmulatorPlace place = EmulatorPlace::current()) {
  ::pleat::emulator::Block::current().block->warp_op(::pleat::emulator::WarpOp::synchronise, mask, 0, 0, place);
}
template <class T>
T __shfl_sync(unsigned mask, T value, int source, EmulatorPlace place = EmulatorPlace::current()) {
  return ::pleat::emulator::shuffle(mask, value, unsigned(source) % 32, place);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int with, EmulatorPlace place = EmulatorPlace::current()) {
  return ::pleat::emulator::shuffle(mask, value, ::pleat::emulator::Block::current().lane() ^ (unsigned(with) % 32),
                                    place);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, EmulatorPlace place = EmulatorPlace::current()) {
  const unsigned lane = ::pleat::emulator::Block::current().lane();
  return ::pleat::emulator::shuffle(mask, value, lane + by < 32 ? lane + by : lane, place);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, EmulatorPlace place = EmulatorPlace::current()) {
  const unsigned lane = ::pleat::emulator::Block::current().lane();
  return ::pleat::emulator::shuffle(mask, value, lane >= by ? lane - by : lane, place);
}
inline unsigned __ballot_sync(unsigned mask, int vote, EmulatorPlace place = EmulatorPlace::current()) {
  return unsigned(::pleat::emulator::Block::current().block->warp_op(::pleat::emulator::WarpOp::ballot, mask,
                                                                     uint64_t(vote != 0), 0, place));
}
inline int __any_sync(unsigned mask, int vote, EmulatorPlace place = EmulatorPlace::current()) {
  return __ballot_sync(mask, vote, place) != 0;
}
inline int __all_sync(unsigned mask, int vote, EmulatorPlace place = EmulatorPlace::current()) {
  return __ballot_sync(mask, vote, place) == mask;
}
inline int __popc(unsigned bits) { return std::popcount(bits); }
inline int __ffs(int bits) { return bits == 0 ? 0 : std::countr_zero(unsigned(bits)) + 1; }

template <class T>
T __ldg(const T* from) {
  return *from;
}
template <class T>
T atomicAdd(T* to, T value) {
  return std::atomic_ref<T>(*to).fetch_add(value, std::memory_order_relaxed);
}
inline void __nanosleep(unsigned) { ::pleat::emulator::Block::current().block->yield(); }

inline int min(int a, int b) { return b < a ? b : a; }
inline int max(int a, int b) { return b > a ? b : a; }
inline float __expf(float x) { return std::exp(x); }
inline float __fmul_rn(float a, float b) { return a * b; }  // never part of a fused multiply-add
inline int __dp4a(int a, int b, int sum) {
  for (int i = 0; i < 4; ++i) sum += int(int8_t(a >> 8 * i)) * int(int8_t(b >> 8 * i));
  return sum;
}
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
  unsigned out = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned from = selector >> 4 * i & 7;
    out |= ((from < 4 ? low : high) >> 8 * (from % 4) & 0xffu) << 8 * i;
  }
  return out;
}
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
// NOLINTEND(bugprone-reserved-identifier)
