// The emulator names each kind of bug where it is planted.
#include <gtest/gtest.h>

#include <chrono>

#include "kernels/emulator/running_grids.h"
#include "on_the_emulator.h"

namespace pleat::cuda {
namespace {

__global__ void some_skip_the_barrier() {
  if (threadIdx.x < 40)
    __syncthreads();
  else
    __shfl_sync(~0u, 1, 0);
}
__global__ void two_barriers() {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
}
__global__ void a_lane_has_left() {
  if (threadIdx.x == 5) return;
  __shfl_xor_sync(~0u, 1.0f, 1);
}
__global__ void outside_the_mask() { __shfl_sync(threadIdx.x < 16 ? 0xffffu : 0xffff0000u, 1, 20); }
__global__ void a_first_lane_has_left() {
  if (threadIdx.x > 0) __syncwarp();
}
__global__ void all_of_a_warp() { __ballot_sync(~0u, 1); }
// Lane 0 waits for lane 1 alone, which waits for lane 2 too.
__global__ void different_masks() {
  if (threadIdx.x < 3) __ballot_sync(threadIdx.x == 0 ? 3u : 7u, 1);
}
__global__ void different_operations() {
  if (threadIdx.x % 2 == 0)
    __syncwarp();
  else
    __ballot_sync(~0u, 1);
}
__global__ void write_past(float* x, int count) { x[count] = 1; }
__global__ void read_shared_past(float* out) {
  __shared__ SharedArray<float, 32> values;
  *out = values[32];
}
__global__ void write_shared_through_data(int index) {
  __shared__ SharedArray<float, 32> values;
  values.data()[index] = 1;
}
__global__ void use_shared_of_both_kinds() {
  __shared__ SharedArray<float, 2049> values;
  values[0] = dynamic_shared<float>()[0] = 1;
}
__global__ void write_at(char* memory, int offset) { memory[offset] = 1; }
__global__ void write_dynamic_past() { dynamic_shared<float>()[16] = 1; }
__global__ void overflow_the_stack(int depth, volatile int* out) {
  volatile char room[4096];
  room[depth % 4096] = char(depth);
  if (depth > 0) overflow_the_stack(depth - 1, out);
  *out = room[depth % 4096];
}

class EmulatorDeathTest : public testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(EmulatorDeathTest, DivergentBarriersAreNamed) {
  EXPECT_DEATH(launch(some_skip_the_barrier, {1, 64}),
               "planted_bugs_test.cpp:[0-9]+: divergent barrier: thread 0 waits here");
  EXPECT_DEATH(launch(two_barriers, {1, 64}),
               "divergent barrier: thread 32 waits here, thread 0 at planted_bugs_test.cpp");
}

TEST_F(EmulatorDeathTest, WarpOperationsWithoutTheirLanesAreNamed) {
  EXPECT_DEATH(launch(a_lane_has_left, {1, 32}), "names a lane that has ended .*block 0,0,0, thread");
  EXPECT_DEATH(launch(outside_the_mask, {1, 32}), "a shuffle reads from a lane outside of its mask");
  EXPECT_DEATH(launch(a_first_lane_has_left, {1, 32}), "names a lane that has ended .*block 0,0,0, thread 1");
  EXPECT_DEATH(launch(all_of_a_warp, {1, 20}), "names a lane that has ended .*block 0,0,0, thread 0");
  EXPECT_DEATH(launch(different_operations, {1, 32}), "meet in different warp operations");
  EXPECT_DEATH(launch(different_masks, {1, 32}), "lanes 2 and 0 meet in different warp operations or with different");
}

TEST_F(EmulatorDeathTest, AccessesOutOfBoundsAreNamed) {
  DeviceArray<float> x(1000);
  EXPECT_DEATH(launch(write_past, {1, 1}, x.data(), 1000), "access outside of every allocation");
  EXPECT_DEATH(launch(read_shared_past, {1, 1}, x.data()), "index 32 of a shared array of 32");
  EXPECT_DEATH(launch(write_dynamic_past, {1, 1, 64}), "access outside of every allocation");
  EXPECT_DEATH(launch(overflow_the_stack, {1, 1}, 1000, reinterpret_cast<volatile int*>(x.data())),
               "access outside of every allocation");
}

TEST_F(EmulatorDeathTest, WritesRightBesideSharedArraysAreNamedWhenTheirBlockEnds) {
  launch(write_shared_through_data, {1, 1}, 31);
  EXPECT_DEATH(launch(write_shared_through_data, {{2, 1}, 1}, 32),
               "planted_bugs_test.cpp:[0-9]+: block 0,0,0 wrote past a shared array of 128 bytes");
  EXPECT_DEATH(launch(write_shared_through_data, {1, 1}, -1), "block 0,0,0 wrote before a shared array of 128 bytes");
}

TEST_F(EmulatorDeathTest, MoreSharedMemoryThanALaunchMayHaveIsNamed) {
  constexpr size_t kStatic = 2049 * sizeof(float), kAll = 163 << 10;
  launch(use_shared_of_both_kinds, {1, 1, (48 << 10) - kStatic});
  launch(use_shared_of_both_kinds, {1, 1, kAll - kStatic});
  EXPECT_DEATH(launch(use_shared_of_both_kinds, {1, 1, 40 << 10}),
               "49156 bytes of shared memory, of which 40960 dynamic, in a block that may have 49152");
  EXPECT_DEATH(launch(use_shared_of_both_kinds, {1, 1, kAll - kStatic + 4}), "in a block that may have 166912");
}

TEST_F(EmulatorDeathTest, WritesRightBesideAnAllocationAreNamedWhenItIsFreed) {
  const auto write_beside = [](int offset) {
    DeviceArray<char> x(21);
    launch(write_at, {1, 1}, x.data(), offset);
  };
  write_beside(20);
  EXPECT_DEATH(write_beside(-1), "a write before an allocation of 21 bytes");
  EXPECT_DEATH(write_beside(21), "a write past an allocation of 21 bytes");
}

// What hangs on a device: a call that may wait for all grids, while one of them waits for what comes behind it.
TEST_F(EmulatorDeathTest, CallsThatWaitForAGridThatWaitsForThemAreNamed) {
  const auto hang_in = [](auto call) {
    emulator::set_patience(std::chrono::milliseconds(100));
    run_beside_a_waiting_kernel(0, [&](unsigned*) { call(); });
  };
  void *memory = nullptr, *host = nullptr;
  check(cudaMalloc(&memory, 16), "cudaMalloc");
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(stream, &graph), "end");
  cudaGraphExec_t exec = nullptr;
  EXPECT_DEATH(hang_in([&] { cudaMalloc(&host, 16); }),
               "on_the_emulator.h:[0-9]+: cudaMalloc waits for this grid, which waits");
  EXPECT_DEATH(hang_in([&] { cudaMallocHost(&host, 16); }), "cudaMallocHost waits for this grid");
  EXPECT_DEATH(hang_in([&] { cudaFree(memory); }), "cudaFree waits for this grid");
  EXPECT_DEATH(hang_in([&] { cudaGraphInstantiate(&exec, graph, 0); }), "cudaGraphInstantiate waits for this grid");
  cudaFree(memory);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

TEST_F(EmulatorDeathTest, MemoryFreedIsNoMemory) {
  float* x = nullptr;
  check(cudaMalloc(reinterpret_cast<void**>(&x), 64), "cudaMalloc");
  cudaFree(x);
  EXPECT_DEATH(launch(write_past, {1, 1}, x, 0), "access outside of every allocation|AddressSanitizer");
  EXPECT_DEATH(cudaFree(x), "freed twice");
}

#ifdef __SANITIZE_THREAD__
extern "C" const char* __tsan_default_options() { return "halt_on_error=1"; }

// A neighbour's value without, or with, a barrier in between.
__global__ void read_a_neighbour(bool wait, float* out) {
  __shared__ SharedArray<float, 64> values;
  values[int(threadIdx.x)] = float(threadIdx.x);
  if (wait) __syncthreads();
  out[threadIdx.x] = values[int(threadIdx.x + 1) % 64];
}
// A shuffle exchanges values, it does not order memory.
__global__ void read_another_lane(bool wait, float* out) {
  __shared__ SharedArray<float, 32> values;
  values[int(threadIdx.x)] = __shfl_xor_sync(~0u, float(threadIdx.x), 1);
  if (wait) __syncwarp();
  out[threadIdx.x] = values[int(threadIdx.x) ^ 2];
}
// Blocks of one grid are not ordered.
__global__ void write_the_same(float* out) { *out = 1; }

TEST_F(EmulatorDeathTest, RacesAreReportedByTheThreadSanitizer) {
  DeviceArray<float> out(64);
  launch(read_a_neighbour, {1, 64}, true, out.data());
  launch(read_another_lane, {1, 32}, true, out.data());
  EXPECT_DEATH(launch(read_a_neighbour, {1, 64}, false, out.data()), "data race");
  EXPECT_DEATH(launch(read_another_lane, {1, 32}, false, out.data()), "data race");
  EXPECT_DEATH(launch(write_the_same, {.grid = 2, .block = 1, .cooperative = true}, out.data()), "data race");
}
#endif

}  // namespace
}  // namespace pleat::cuda
