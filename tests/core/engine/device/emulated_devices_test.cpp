// What only the emulator can show: several devices, their memory, what the library is asked.
#include <gtest/gtest.h>

#include <array>
#include <atomic>

#include "core/checkpoint/checkpoint.h"
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

// Whichever thread has read them.
TEST(TwoDevices, EachHasTheWeightsOfItsRank) {
  emulator::set_device_count(2);
  const std::array<int64_t, 2> before = {emulator::allocated_on(0), emulator::allocated_on(1)};
  run_ranks(2, [&](Communicator& communicator) {
    const int rank = communicator.rank();
    int64_t loaded = 0;
    LoadOptions options;
    options.backend = device_backend();
    options.threads = 3;
    options.oversubscribed = true;
    options.progress = [&](int done, int parts, int64_t) {
      if (done == parts) loaded = emulator::allocated_on(rank) - before[size_t(rank)];
    };
    const int64_t weights = load_model(fixture("families/gpt2"), communicator, options).weight_bytes;
    EXPECT_NEAR(double(loaded), double(weights), 0.1 * double(weights)) << rank;
  });
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

// cuBLASLt has a job's products, or none of them, whoever has nothing to multiply: its sums are in an order of its own.
TEST(Library, HasTheProductsOfARankBesideOnesWithoutHeads) {
  const std::string folder = fixture("families/gpt2");
  const int heads = read_blueprint(Checkpoint::open(folder)).heads;
  const auto products_on = [&](int ranks) {
    const int64_t before = emulator::library_products();
    on_the_device(folder, WeightFormat::bf16, {kAll, ranks});
    return emulator::library_products() - before;
  };
  const int64_t alone = products_on(1);
  EXPECT_GT(alone, 0);
  EXPECT_EQ(products_on(heads + 1), heads * alone);
}

TEST(DeviceMemory, WithoutRoomForAGraphPassesRunWithoutOne) {
  const std::string folder = fixture("families/gpt2");
  for (const int ranks : {1, 3}) {
    const Where where{.chunk = 1, .ranks = ranks};
    const std::vector<float> device = on_the_device(folder, WeightFormat::f32, where);
    emulator::refuse_graphs(1);
    testing::internal::CaptureStderr();
    EXPECT_EQ(on_the_device(folder, WeightFormat::f32, where), device);
    const std::string said = testing::internal::GetCapturedStderr();
    EXPECT_EQ(std::ranges::count(said, '\n'), 1) << said;
    EXPECT_NE(said.find("has no memory for one more graph: steps of "), std::string::npos) << said;
  }
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
