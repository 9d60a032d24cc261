// The emulator runs CUDA's threads, and names each kind of bug where it is planted.
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <functional>
#include <numeric>
#include <thread>
#include <vector>

#include "device_language.h"
#include "kernels/emulator/running_grids.h"

namespace pleat::cuda {
namespace {

// Memory of the emulated device.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count) : count_(count) {
    check(cudaMalloc(reinterpret_cast<void**>(&data_), count * sizeof(T)), "cudaMalloc");
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  T* data() { return data_; }
  T& operator[](size_t i) { return data_[i]; }
  std::vector<T> values() const { return std::vector<T>(data_, data_ + count_); }

 private:
  T* data_ = nullptr;
  size_t count_;
};

__device__ float warp_sum(float value) {
  for (int with = 16; with > 0; with /= 2) value += __shfl_xor_sync(~0u, value, with);
  return value;
}

// out[block] = sum of the block's part of x [blocks, count].
__global__ void block_sums(const float* x, int count, float* out) {
  __shared__ SharedArray<float, 32> sums;
  float sum = 0;
  for (int i = int(threadIdx.x); i < count; i += int(blockDim.x)) sum += x[int(blockIdx.x) * count + i];
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) sums[int(threadIdx.x) / 32] = sum;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  sum = warp_sum(threadIdx.x < blockDim.x / 32 ? sums[int(threadIdx.x)] : 0.0f);
  if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

TEST(Emulator, SumsOfBlocksAreRightInAnyOrderOfThreads) {
  constexpr int kBlocks = 3, kCount = 1000;
  DeviceArray<float> x(kBlocks * kCount), out(kBlocks);
  for (int i = 0; i < kBlocks * kCount; ++i) x[size_t(i)] = float(i % 17);
  for (const unsigned seed : {0u, 1u, 2u, 3u}) {
    emulator::set_schedule(seed);
    launch(block_sums, {kBlocks, 256}, x.data(), kCount, out.data());
    for (int block = 0; block < kBlocks; ++block)
      EXPECT_EQ(out[size_t(block)], std::accumulate(x.data() + block * kCount, x.data() + (block + 1) * kCount, 0.0f));
  }
  emulator::set_schedule(0);
}

// Lanes: values of the lane above, of lane 3, a vote, the lane below; and threads in three dimensions.
__global__ void lanes(int* out) {
  const int lane = int(threadIdx.x + blockDim.x * threadIdx.y);
  out[lane] = __shfl_down_sync(~0u, lane, 1);
  out[32 + lane] = __shfl_sync(~0u, lane, 3);
  out[64 + lane] = int(__ballot_sync(~0u, lane % 3 == 0));
  out[96 + lane] = __shfl_up_sync(~0u, lane, 2);
  if (lane < 8) out[128 + lane] = __shfl_xor_sync(0xffu, lane, 1);
}

TEST(Emulator, WarpOperationsGiveWhatTheProgrammingGuideSays) {
  DeviceArray<int> out(136);
  launch(lanes, {1, dim3(8, 4)}, out.data());
  for (int lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(out[size_t(lane)], lane < 31 ? lane + 1 : lane);
    EXPECT_EQ(out[size_t(32 + lane)], 3);
    EXPECT_EQ(unsigned(out[size_t(64 + lane)]), 0b01001001001001001001001001001001u);
    EXPECT_EQ(out[size_t(96 + lane)], lane >= 2 ? lane - 2 : lane);
  }
  for (int lane = 0; lane < 8; ++lane) EXPECT_EQ(out[size_t(128 + lane)], lane ^ 1);
}

__global__ void count_threads(unsigned* counter) { atomicAdd(counter, 1u); }

TEST(Emulator, AtomicsCountEveryThread) {
  DeviceArray<unsigned> counter(1);
  counter[0] = 0;
  launch(count_threads, {{7, 2, 3}, {5, 3, 2}}, counter.data());
  EXPECT_EQ(counter[0], 7u * 2 * 3 * 5 * 3 * 2);
}

// Each block waits for its neighbour's flag.
__global__ void meet(unsigned* flags) {
  if (threadIdx.x == 0) {
    store_release(flags + blockIdx.x, 1);
    while (load_acquire(flags + (blockIdx.x + 1) % gridDim.x) == 0) __nanosleep(20);
  }
  __syncthreads();
}

TEST(Emulator, BlocksOfACooperativeLaunchRunTogether) {
  DeviceArray<unsigned> flags(4);
  for (size_t i = 0; i < 4; ++i) flags[i] = 0;
  launch(meet, {.grid = 4, .block = 64, .cooperative = true}, flags.data());
  EXPECT_EQ(flags.values(), std::vector<unsigned>(4, 1));
}

__global__ void double_it(float* x) { x[threadIdx.x] *= 2; }
__global__ void double_when_due(float* x) {
  let_next_start();
  wait_for_previous();
  x[threadIdx.x] *= 2;
}

TEST(Emulator, OverlappingGridsWaitForTheOneBefore) {
  DeviceArray<float> x(1);
  x[0] = 1;
  launch(double_it, {1, 1}, x.data());
  launch_overlapping(double_when_due, {1, 1}, x.data());
  launch(double_when_due, {1, 1}, x.data());
  EXPECT_EQ(x[0], 8);
  EXPECT_DEATH(launch_overlapping(double_it, {1, 1}, x.data()), "a block never waits for the grid before its own");
}

__global__ void use_dynamic(float* out) {
  float* const shared = dynamic_shared<float>();
  shared[threadIdx.x] = float(threadIdx.x);
  __syncthreads();
  out[threadIdx.x] = shared[blockDim.x - 1 - threadIdx.x];
}

TEST(Emulator, DynamicSharedMemoryIsTheBlocks) {
  DeviceArray<float> out(64);
  launch(use_dynamic, {1, 64, 64 * sizeof(float)}, out.data());
  for (int i = 0; i < 64; ++i) EXPECT_EQ(out[size_t(i)], float(63 - i));
}

TEST(Emulator, AGraphRepeatsWhatItsStreamWasToldWhileCaptured) {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  DeviceArray<float> x(32), y(32);
  for (size_t i = 0; i < 32; ++i) x[i] = 1;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  launch(double_it, {1, 32, 0, stream}, x.data());
  check(cudaMemcpyAsync(y.data(), x.data(), 32 * sizeof(float), cudaMemcpyDeviceToDevice, stream), "copy");
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(stream, &graph), "end");
  EXPECT_EQ(x[0], 1) << "nothing runs while captured";
  cudaGraphExec_t exec = nullptr;
  check(cudaGraphInstantiate(&exec, graph, 0), "instantiate");
  for (int i = 0; i < 3; ++i) check(cudaGraphLaunch(exec, stream), "launch");
  EXPECT_EQ(x[0], 8);
  EXPECT_EQ(y[31], 8);
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

TEST(Emulator, ACaptureIsSpoiltByWhatCudaForbidsInIt) {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  cudaEvent_t event = nullptr;
  check(cudaEventCreate(&event), "event");
  DeviceArray<float> x(32);
  std::vector<float> pageable(32);
  void* memory = nullptr;
  const std::vector<std::function<cudaError_t()>> forbidden = {
      [&] { return cudaMalloc(&memory, 16); },
      [&] { return cudaMallocHost(&memory, 16); },
      [&] { return cudaFree(nullptr); },
      [&] { return cudaFreeHost(nullptr); },
      [&] { return cudaStreamSynchronize(stream); },
      [&] { return cudaEventQuery(event); },
      [&] { return cudaMemcpyAsync(x.data(), pageable.data(), 128, cudaMemcpyHostToDevice, stream); },
      [&] { return cudaMemcpyAsync(pageable.data(), x.data(), 128, cudaMemcpyDeviceToHost, stream); }};
  for (size_t i = 0; i < forbidden.size(); ++i) {
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
    EXPECT_EQ(forbidden[i](), cudaErrorStreamCaptureUnsupported) << "call " << i;
    EXPECT_THROW(launch(double_it, {1, 32, 0, stream}, x.data()), Error) << "call " << i;
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated) << "call " << i;
    EXPECT_EQ(graph, nullptr);
  }
  cudaEventDestroy(event);
  cudaStreamDestroy(stream);
}

// A rank's kernel that waits for another rank.
__global__ void wait_for_word(const unsigned* word, unsigned* running) {
  store_release(running, 1);
  while (load_acquire(word) == 0) __nanosleep(20);
}

// `meanwhile` while such a kernel runs on `device`, and then the word that it waits for.
template <class Meanwhile>
void run_beside_a_waiting_kernel(int device, Meanwhile meanwhile) {
  DeviceArray<unsigned> words(2);
  words[0] = words[1] = 0;
  std::thread peer([&] {
    check(cudaSetDevice(device), "cudaSetDevice");
    launch(wait_for_word, {1, 1}, words.data(), words.data() + 1);
  });
  while (load_acquire(words.data() + 1) == 0) std::this_thread::yield();
  meanwhile(words.data());
  store_release(words.data(), 1);
  peer.join();
}

TEST(Emulator, MemoryComesAndGoesWhenTheDevicesGridsHaveEnded) {
  bool ended = false;
  run_beside_a_waiting_kernel(0, [&](unsigned* word) {
    std::thread ends_it([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      ended = true;
      store_release(word, 1);
    });
    DeviceArray<float> more(16);
    EXPECT_TRUE(load_acquire(word) == 1 && ended);
    ends_it.join();
  });
}

TEST(Emulator, MemoryWaitsForNoGridOfAnotherDevice) {
  emulator::set_device_count(2);
  run_beside_a_waiting_kernel(1, [](unsigned*) { DeviceArray<float> more(16); });
  emulator::set_device_count(1);
}

TEST(Emulator, WhatADeviceWouldNotStartDoesNotStart) {
  DeviceArray<unsigned> counter(1);
  EXPECT_THROW(launch(count_threads, {0, 32}, counter.data()), Error);
  EXPECT_THROW(launch(count_threads, {1, 1025}, counter.data()), Error);
  EXPECT_THROW(launch(count_threads, {dim3(1, 65536), 32}, counter.data()), Error);
  EXPECT_THROW(launch(count_threads, {1, 32, 200 << 10}, counter.data()), Error);
}

// Planted bugs, one of each kind.

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
__global__ void write_at(char* memory, int offset) { memory[offset] = 1; }
__global__ void write_dynamic_past() { dynamic_shared<float>()[16] = 1; }
__global__ void forget_to_write(float* out) {
  __shared__ SharedArray<float, 32> values;
  if (threadIdx.x > 0) values[int(threadIdx.x)] = 1;
  __syncthreads();
  out[threadIdx.x] = values[int(threadIdx.x)];
}
__global__ void forget_to_write_dynamic(float* out) {
  float* const values = dynamic_shared<float>();
  if (threadIdx.x > 0) values[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = values[threadIdx.x];
}
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
               "emulator_test.cpp:[0-9]+: divergent barrier: thread 0 waits here");
  EXPECT_DEATH(launch(two_barriers, {1, 64}), "divergent barrier: thread 32 waits here, thread 0 at emulator_test.cpp");
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
               "emulator_test.cpp:[0-9]+: block 0,0,0 wrote past a shared array of 128 bytes");
  EXPECT_DEATH(launch(write_shared_through_data, {1, 1}, -1), "block 0,0,0 wrote before a shared array of 128 bytes");
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
               "emulator_test.cpp:[0-9]+: cudaMalloc waits for this grid, which waits");
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
  EXPECT_DEATH(launch(write_past, {1, 1}, x, 0), "access outside of every allocation");
  EXPECT_DEATH(cudaFree(x), "freed twice");
}

TEST(Emulator, SharedMemoryThatNobodyWroteIsNan) {
  DeviceArray<float> out(32);
  for (int i = 0; i < 2; ++i) {  // in the second block too, after the first one wrote
    launch(forget_to_write, {2, 32}, out.data());
    EXPECT_TRUE(std::isnan(out[0]));
    EXPECT_EQ(out[1], 1);
    launch(forget_to_write_dynamic, {2, 32, 32 * sizeof(float)}, out.data());
    EXPECT_TRUE(std::isnan(out[0]));
    EXPECT_EQ(out[1], 1);
  }
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
