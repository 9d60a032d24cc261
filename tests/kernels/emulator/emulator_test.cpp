// The emulator does what the CUDA programming guide says.
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <functional>
#include <numeric>
#include <thread>
#include <vector>

#include "on_the_emulator.h"

namespace pleat::cuda {
namespace {

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
__global__ void double_when_one_has_waited(float* x) {
  if (threadIdx.x == 0) wait_for_previous();
  __syncthreads();
  x[threadIdx.x] *= 2;
}

TEST(Emulator, OverlappingGridsWaitForTheOneBefore) {
  DeviceArray<float> x(1);
  x[0] = 1;
  launch(double_it, {1, 1}, x.data());
  launch_overlapping(double_when_due, {1, 1}, x.data());
  launch(double_when_due, {1, 1}, x.data());
  EXPECT_EQ(x[0], 8);
  EXPECT_DEATH(launch_overlapping(double_it, {1, 1}, x.data()), "a thread never waits for the grid before its own");
  DeviceArray<float> two(2);
  EXPECT_DEATH(launch_overlapping(double_when_one_has_waited, {1, 2}, two.data()),
               "a thread never waits for the grid before its own.*thread 1");
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

}  // namespace
}  // namespace pleat::cuda
