// Several devices, which the emulator has, and their memory.
#include <gtest/gtest.h>

#include <atomic>

#include "device_runs.h"
#include "kernels/check.h"
#include "kernels/cuda/device.h"
#include "kernels/emulator/runtime.h"

namespace pleat::test {
namespace {

// Two devices: each rank takes its own, and NCCL (here the emulator's) adds, or lends its windows to peers.
TEST(TwoDevices, RanksWithDevicesOfTheirOwnGiveTheSameBits) {
  const std::string folder = fixture("families/gpt2");
  const std::vector<float> device = on_the_device(folder, WeightFormat::f32);
  emulator::set_device_count(2);
  for (const DeviceSums sums : {DeviceSums::automatic, DeviceSums::nccl})
    EXPECT_EQ(on_the_device(folder, WeightFormat::f32, {.chunk = kChunk, .ranks = 2, .sums = sums}), device);
  emulator::set_device_count(1);
}

TEST(TwoDevices, AThirdRankIsRefusedBeforeAnythingIsLoaded) {
  emulator::set_device_count(2);
  LoadOptions options;
  options.backend = device_backend();
  std::atomic<bool> loads = false;
  options.progress = [&](int, int, int64_t) { loads = true; };
  try {
    with_engine(fixture("families/gpt2"), 3, options, [](Engine&, Communicator&) {});
    ADD_FAILURE() << "three ranks, two devices";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid);
    EXPECT_NE(std::string(error.what()).find("rank 2"), std::string::npos) << error.what();
  }
  EXPECT_FALSE(loads);
  emulator::set_device_count(1);
}

TEST(DeviceMemory, LimitsTheKeyValueCache) {
  LoadOptions options;
  options.dtype = WeightFormat::f32;
  options.backend = device_backend();
  options.engine.kv_tokens = int64_t(1) << 40;
  with_engine(fixture("families/gpt2"), 1, options, [](Engine& engine, Communicator&) {
    const Blueprint& blueprint = engine.blueprint();
    const int64_t token = 2 * blueprint.layers * blueprint.kv_heads * blueprint.head_size * int64_t(sizeof(float));
    EXPECT_EQ(engine.kv_pages(), cuda::device_info().memory_free / 10 * 9 / (token * kPageTokens));
  });
}

}  // namespace
}  // namespace pleat::test
