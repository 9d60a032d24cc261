// `--device cuda` through the program itself, on the emulator's GPU.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/cluster/program/served.h"

namespace pleat::test {
namespace {

Outcome on_the_device(const std::string& arguments) {
  return shell(std::string(PLEAT_EMULATED) + " " + arguments + " --device cuda");
}

// Greedy, in f32, so that no two tokens are nearly as good.
std::string greedy(const std::string& folder) {
  return "generate --quiet --model " + folder +
         " --prompt 'Once upon a time' --max-tokens 8 --temperature 0 --dtype f32";
}

TEST(Device, GeneratesTheTextThatTheCpuGenerates) {
  const Outcome cpu = pleat(greedy(model())), device = on_the_device(greedy(model()));
  ASSERT_EQ(device.code, 0) << device.err;
  EXPECT_EQ(device.out, cpu.out);
  EXPECT_GT(device.out.size(), 10u);
}

TEST(Device, GeneratesTheTextOfAFoldedModel) {
  const Scratch scratch;
  for (const std::string how : {"--reduction 0.75", "--select all --inputs 0.6"}) {
    const std::string folded = scratch.path(how);
    const Outcome fold = pleat("fold --quiet " + how + " --max-tokens 1024 --model " + model() + " --text " +
                               PLEAT_SOURCE_DIR "/examples/calibration.txt --out '" + folded + "'");
    ASSERT_EQ(fold.code, 0) << fold.err;
    const std::string generate = greedy("'" + folded + "'");
    const Outcome cpu = pleat(generate), device = on_the_device(generate);
    ASSERT_EQ(device.code, 0) << device.err;
    EXPECT_EQ(device.out, cpu.out) << how;
  }
}

// Processes: sums go through each other's device memory.
TEST(Device, GeneratesTheSameTextOnTwoRanks) {
  const Outcome cpu = pleat(greedy(model()));
  const Outcome device =
      shell(std::string("mpirun -np 2 ") + PLEAT_EMULATED + " " + greedy(model()) + " --device cuda");
  ASSERT_EQ(device.code, 0) << device.err;
  EXPECT_EQ(device.out, cpu.out);
}

TEST(Device, ServesTheTextThatTheCpuGenerates) {
  const std::string asked = " --prompt 'Once upon a time' --max-tokens 4 --temperature 0";
  const std::string expected = pleat("generate --quiet --dtype f32 --model " + model() + asked).out;
  for (const std::string ranks : {"", "mpirun -np 2 "}) {
    Background served(ranks + PLEAT_EMULATED + " serve --quiet --listen 127.0.0.1:0 --step-timeout 300 --model " +
                      model() + " --dtype f32 --device cuda");
    ASSERT_NE(served.address(), "") << served.errors();
    const Outcome text = pleat("ask " + served.address() + asked);
    EXPECT_EQ(text.code, 0) << text.err;
    EXPECT_EQ(text.out, expected) << ranks;
    EXPECT_EQ(pleat("ask " + served.address() + " --drain").code, 0);
    EXPECT_EQ(served.wait(), 0) << served.errors();
  }
}

// Processes, each with a device of its own.
TEST(Device, IsCheckedWithItsSums) {
  const std::string two = std::string("mpirun -np 2 ") + PLEAT_EMULATED;
  const Outcome table = shell(two + " check --device cuda --step-timeout 300");
  ASSERT_EQ(table.code, 0) << table.err;
  for (const char* part : {"2 ranks on 1 host", "emulated device", "0000:01:00.0", "sums: peers: ", "     16 KB  ",
                           "the devices' sums have the same bits on every rank"})
    EXPECT_NE(table.out.find(part), std::string::npos) << part << "\n in " << table.out;
  const Outcome json = shell(two + " bench allreduce --device cuda --device-sums host --json --step-timeout 300");
  ASSERT_EQ(json.code, 0) << json.err;
  const nlohmann::json report = nlohmann::json::parse(json.out);
  EXPECT_EQ(report["sums"], "host");
  EXPECT_EQ(report["devices"].size(), 2u);
  EXPECT_EQ(report["device_all_reduce"].size(), 7u);
  EXPECT_EQ(report["same_bits"], true);
}

TEST(Device, TimesTheFfnOfAStepByItself) {
  const Outcome fold = on_the_device("bench fold --synthetic tiny --layers 2 --fold 0.8 --tokens 8 --json --quiet");
  ASSERT_EQ(fold.code, 0) << fold.err;
  std::istringstream lines(fold.out);
  double ms[2], bytes[2];
  for (const int i : {0, 1}) {
    std::string line;
    ASSERT_TRUE(std::getline(lines, line)) << fold.out;
    const auto json = nlohmann::json::parse(line);
    ms[i] = json["ffn_ms"];
    bytes[i] = json["ffn_bytes"];
    EXPECT_GT(ms[i], 0);
    EXPECT_DOUBLE_EQ(json["ffn_speedup"], ms[0] / ms[i]);
  }
  EXPECT_EQ(bytes[0], 2 * 2 * 2.0 * 128 * 512);  // two layers of two bf16 matrices
  EXPECT_LT(bytes[1], 0.3 * bytes[0]);
}

TEST(Device, RefusesWhatDoesNotRunThere) {
  const Outcome outcome = on_the_device("inspect --model " + model());
  EXPECT_EQ(outcome.code, 2) << outcome.err;
  EXPECT_EQ(own_errors(outcome).size(), 1u) << outcome.err;
  EXPECT_NE(outcome.err.find("runs on the CPU"), std::string::npos) << outcome.err;
}

}  // namespace
}  // namespace pleat::test
