// Several devices, which the emulator has.
#include <gtest/gtest.h>

#include "device_runs.h"
#include "kernels/check.h"
#include "kernels/emulator/runtime.h"

namespace pleat::test {
namespace {

// Two devices: each rank takes its own, and NCCL (here the emulator's) adds.
TEST(TwoDevices, RanksWithDevicesOfTheirOwnGiveTheSameBits) {
  const std::string folder = fixture("families/gpt2");
  const std::vector<float> device = on_the_device(folder, WeightFormat::f32);
  emulator::set_device_count(2);
  EXPECT_EQ(on_the_device(folder, WeightFormat::f32, {kChunk, 2}), device);
  try {
    on_the_device(folder, WeightFormat::f32, {kChunk, 3});
    FAIL() << "three ranks, two devices";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid);
    EXPECT_NE(std::string(error.what()).find("rank 2"), std::string::npos) << error.what();
  }
  emulator::set_device_count(1);
}

}  // namespace
}  // namespace pleat::test
