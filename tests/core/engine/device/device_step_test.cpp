// Steps on a device, or the emulator's, against the engine on the CPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <tuple>

#include "device_runs.h"
#include "tests/core/fold/folded_models.h"

namespace pleat::test {
namespace {

void expect_near(const std::vector<float>& got, const std::vector<float>& expected, double tolerance) {
  ASSERT_EQ(got.size(), expected.size());
  double size = 0, worst = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    size = std::max(size, double(std::fabs(expected[i])));
    worst = std::max(worst, double(std::fabs(got[i] - expected[i])));
  }
  EXPECT_LE(worst, tolerance * size);
}

// In f32 a logit passes some hundred additions a layer, in another order than the CPU's.
constexpr double kTolerance = 2e-5;

struct FamilyOnRanks {
  const char* family;
  int ranks;  // 1: nothing besides; the others differ in how attention and FFN are split, few divide the heads
};

class DeviceFamily : public testing::TestWithParam<FamilyOnRanks> {};

TEST_P(DeviceFamily, LogitsAreTheCpusAndTheSameOnAnyRanks) {
  const std::string folder = fixture(concat("families/", GetParam().family));
  const std::vector<float> device = on_the_device(folder, WeightFormat::f32);
  expect_near(device, on_the_cpu(folder, WeightFormat::f32), kTolerance);
  if (GetParam().ranks > 1) {
    EXPECT_EQ(on_the_device(folder, WeightFormat::f32, {kChunk, GetParam().ranks}), device);
  }
}

using F = FamilyOnRanks;
INSTANTIATE_TEST_SUITE_P(Families, DeviceFamily,
                         testing::Values(F{"gpt2", 2}, F{"opt", 1}, F{"opt-350m", 3}, F{"bloom", 3}, F{"falcon-7b", 4},
                                         F{"falcon-40b", 4}, F{"falcon-11b", 1}, F{"falcon-rw", 1}, F{"pythia", 1},
                                         F{"gpt-neox-sequential", 1}, F{"gptj", 4}, F{"phi", 1}, F{"starcoder2", 1},
                                         F{"llama-2", 1}, F{"llama-3.1", 4}, F{"llama-linear", 1}, F{"llama-yarn", 1},
                                         F{"mistral", 1}, F{"qwen2", 1}, F{"smollm2", 1}, F{"qwen3", 4}, F{"gemma2", 3},
                                         F{"gemma3", 1}, F{"phi-qk-norm", 3}),
                         [](const auto& info) {
                           std::string name = info.param.family;
                           for (char& c : name)
                             if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
                           return name;
                         });

// One token a step: a pass is captured when its shape comes again.
TEST(DeviceStep, CapturedPassesGiveTheSameBitsOnAnyRanks) {
  const std::string folder = fixture("families/gpt2");
  const std::vector<float> device = on_the_device(folder, WeightFormat::f32);
  for (const int ranks : {2, 3, 4})
    EXPECT_EQ(on_the_device(folder, WeightFormat::f32, {1, ranks}), device) << ranks << " ranks";
}

// Falcon adds attention and FFN in one message, GPT-2 each in its own.
TEST(DeviceStep, FastSumsAreTheCpusToo) {
  for (const char* family : {"gpt2", "falcon-7b"}) {
    const std::string folder = fixture(concat("families/", family));
    expect_near(on_the_device(folder, WeightFormat::f32, {kAll, 3, Reduction::fast}),
                on_the_cpu(folder, WeightFormat::f32), kTolerance);
  }
}

TEST(DeviceStep, FastSumsOfPromptsInBf16AreTheCpusToo) {
  const std::string folder = fixture("families/gpt2");
  expect_near(on_the_device(folder, WeightFormat::bf16, {kAll, 3, Reduction::fast}),
              on_the_cpu(folder, WeightFormat::bf16), 0.03);
}

// Every sum waits for the host: nothing is captured, in steps of one token either.
TEST(DeviceStep, SumsThroughTheHostGiveTheSameBits) {
  for (const char* family : {"gpt2", "falcon-7b"}) {
    const std::string folder = fixture(concat("families/", family));
    const std::vector<float> device = on_the_device(folder, WeightFormat::f32);
    for (const int chunk : {1, kChunk})
      EXPECT_EQ(on_the_device(folder, WeightFormat::f32, {.chunk = chunk, .ranks = 2, .sums = DeviceSums::host}),
                device);
  }
}

// In bf16 prompts go through tensor cores, whose leaves here begin between two pieces of 16 bytes. The CPU rounds the
// same numbers, and where a sum lies between two of them either side may take the other one.
TEST(DeviceStep, PromptsInBf16HaveTheSameBitsOnAnyRanksInAnyChunks) {
  const std::string folder = fixture("families/gpt2");
  const std::vector<float> device = on_the_device(folder, WeightFormat::bf16);
  expect_near(device, on_the_cpu(folder, WeightFormat::bf16), 0.03);
  EXPECT_EQ(on_the_device(folder, WeightFormat::bf16, {kChunk, 3}), device);
}

// A number of the cache is off by half a code on both sides, and a code may be the next one where the number that it
// stands for lies between two.
TEST(DeviceStep, ACacheInEightBitsIsTheCpus) {
  const std::string folder = fixture("families/llama-3.1");
  const Where where{kAll, 1, Reduction::invariant, DType::i8};
  const std::vector<float> device = on_the_device(folder, WeightFormat::f32, where);
  expect_near(device, on_the_cpu(folder, WeightFormat::f32, where), 2e-3);
  EXPECT_NE(device, on_the_device(folder, WeightFormat::f32));
}

// A prompt of 40 tokens and 12 generated ones, of which the last five see cut keys; `chunk` tokens a step.
std::vector<float> with_key_channels(double share, const Where& where, bool on_device) {
  constexpr int kPrompt = 40, kAllTokens = 52;
  LoadOptions options;
  options.dtype = WeightFormat::f32;
  options.engine.key_channels = share;
  if (on_device) options.backend = device_backend();
  std::vector<float> all;
  with_engine(fixture("families/qwen2"), where.ranks, options, [&](Engine& engine, Communicator& communicator) {
    for (int begin = 0; begin < kAllTokens; begin += where.chunk) {
      StepPlan plan;
      for (int at = begin; at < std::min(kAllTokens, begin + where.chunk); ++at)
        plan.rows.push_back({2 + at * 37 % 200, at, 0, uint8_t(at >= kPrompt), 1, uint8_t(at == kPrompt - 1)});
      plan.page_tables.push_back({3, 1, 0, 2});
      plan.slots.push_back(1);
      const std::vector<float> part = run_step(engine, communicator, plan);
      all.insert(all.end(), part.begin(), part.end());
    }
  });
  return all;
}

// Of seven query heads to a kv head, which lie on both ranks.
TEST(DeviceStep, CutKeysAreTheCpusAndTheSameOnAnyRanksInAnyChunks) {
  const Where once{64};
  const std::vector<float> device = with_key_channels(0.5, once, true), cpu = with_key_channels(0.5, once, false);
  expect_near(device, cpu, kTolerance);
  EXPECT_EQ(with_key_channels(0.5, {27, 2}, true), device);
  EXPECT_NE(with_key_channels(1, once, false), cpu) << "nothing was cut";
}

// The phases of steps of one token, captured and not, and how long the steps took.
std::pair<PhaseSeconds, double> phases_of_steps(bool asked_for) {
  LayerRecipe recipe;
  recipe.selection = SelectionKind::range;
  recipe.exact = 0.3;
  LoadOptions options;
  options.dtype = WeightFormat::f32;
  options.engine.phases = asked_for;
  options.backend = device_backend();
  PhaseSeconds seconds{};
  double all = 0;
  with_engine(Models::folded(false, recipe), 2, options, [&](Engine& engine, Communicator& communicator) {
    const auto start = std::chrono::steady_clock::now();
    run_two_sequences(1, [&](const StepPlan& plan) { return run_step(engine, communicator, plan); });
    all = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::ranges::copy(engine.statistics().seconds, seconds.begin());
  });
  return {seconds, all};
}

TEST(DeviceStep, ItsPhasesAddUpToTheStep) {
  const auto [seconds, all] = phases_of_steps(true);
  double sum = 0;
  for (const double phase : seconds) sum += phase;
  EXPECT_LE(sum, all);
  using Statistics = EngineStatistics;
  for (const auto phase : {Statistics::attention, Statistics::dense_ffn, Statistics::fold, Statistics::fixup,
                           Statistics::collective, Statistics::head, Statistics::other})
    EXPECT_GT(seconds[phase], 0) << phase;
  EXPECT_LT(seconds[Statistics::other], sum) << "all of it";
}

TEST(DeviceStep, IsNotTimedByPhasesUnlessThatIsAskedFor) {
  const PhaseSeconds seconds = phases_of_steps(false).first;
  for (size_t phase = 0; phase < seconds.size(); ++phase)
    EXPECT_EQ(seconds[phase] > 0, phase == EngineStatistics::other || phase == EngineStatistics::collective) << phase;
}

// C, predictors and low-bit matrices see x in 8 bits: where it lies between two of them, the last bit of an f32
// decides.
constexpr double kRounded = 1e-3;
// With all matrices in low bits that happens at each of them.
constexpr double kAllRounded = 5e-3;

// Relative, in the mean.
double distance(const std::vector<float>& got, const std::vector<float>& expected) {
  double squared = 0, size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    squared += std::pow(double(got[i]) - expected[i], 2);
    size += std::pow(double(expected[i]), 2);
  }
  return std::sqrt(squared / size);
}

struct Folding {
  int ranks;  // besides one
  bool gated;
  SelectionKind selection;
  WeightFormat rows, down;
  double tolerance = kRounded;
  bool lines = true;
  double inputs = 1;  // share of them that gate and up see
};

class DeviceSelections : public testing::TestWithParam<Folding> {};

// In the mean: who is exact is decided by numbers that differ in the last bits, and a neuron at the edge may be exact
// on one side only, which moves a logit by its line's error.
TEST_P(DeviceSelections, FoldedLogitsAreTheCpus) {
  LayerRecipe recipe;
  recipe.selection = GetParam().selection;
  recipe.exact = 0.3;
  recipe.lines = GetParam().lines;
  recipe.inputs = GetParam().inputs;
  recipe.formats = {GetParam().gated ? GetParam().rows : FfnFormats().gate, GetParam().rows, GetParam().down};
  const std::string folder = Models::folded(GetParam().gated, recipe);
  const std::vector<float> cpu = on_the_cpu(folder, WeightFormat::f32);
  const std::vector<float> device = on_the_device(folder, WeightFormat::f32);
  ASSERT_EQ(device.size(), cpu.size());
  EXPECT_LE(distance(device, cpu), GetParam().tolerance);
  EXPECT_EQ(on_the_device(folder, WeightFormat::f32, {1, GetParam().ranks}), device) << "captured, on more ranks";
}

constexpr WeightFormat kBf16 = WeightFormat::bf16, kInt8 = WeightFormat::int8, kInt4 = WeightFormat::int4,
                       kInt3 = WeightFormat::int3, kPlanes = WeightFormat::planes4;
// With gathered rows in low bits a device quantises a prompt's x, which the CPU does not, and multiplies low-bit down
// rows with f32 where the CPU has 8 bits. The kernels' own tests are close. Scores of a prompt's neurons then differ by
// 4 to 10%, so among neurons whose scores are nearer than that (those of int4 down rows here) another one is chosen.
constexpr double kCoarse = 0.02;

INSTANTIATE_TEST_SUITE_P(Selections, DeviceSelections,
                         testing::Values(Folding{2, false, SelectionKind::range, kBf16, kBf16},
                                         Folding{3, false, SelectionKind::range, kInt3, kBf16, kCoarse},
                                         Folding{4, false, SelectionKind::threshold, kInt8, kInt8, kCoarse},
                                         Folding{3, true, SelectionKind::gate, kBf16, kBf16},
                                         Folding{2, true, SelectionKind::gate, kInt4, kInt4, kCoarse},
                                         Folding{4, true, SelectionKind::predictor, kBf16, kBf16},
                                         Folding{3, true, SelectionKind::predictor, kInt3, kInt4, kCoarse},
                                         Folding{2, true, SelectionKind::all, kInt4, kInt4, kAllRounded},
                                         Folding{4, false, SelectionKind::all, kPlanes, kPlanes, kCoarse},
                                         Folding{3, true, SelectionKind::prompt, kBf16, kBf16},
                                         Folding{2, true, SelectionKind::prompt, kInt4, kBf16, kCoarse},
                                         Folding{2, false, SelectionKind::prompt, kBf16, kBf16, kRounded, false},
                                         Folding{4, false, SelectionKind::core, kBf16, kBf16},
                                         Folding{3, true, SelectionKind::hot, kBf16, kBf16},
                                         Folding{2, false, SelectionKind::hot, kInt4, kInt4, kAllRounded, false},
                                         Folding{4, false, SelectionKind::all, kBf16, kBf16, kRounded, false, 0.5},
                                         Folding{3, true, SelectionKind::all, kInt4, kInt4, kCoarse, false, 0.5},
                                         Folding{3, false, SelectionKind::threshold, kBf16, kBf16, kRounded, true, 0.6},
                                         Folding{2, true, SelectionKind::threshold, kBf16, kBf16, kRounded, true, 0.6},
                                         Folding{4, true, SelectionKind::threshold, kInt4, kInt8, kCoarse, false, 0.6},
                                         Folding{2, true, SelectionKind::hot, kBf16, kBf16, kRounded, true, 0.6},
                                         Folding{3, false, SelectionKind::hot, kPlanes, kInt4, kCoarse, true, 0.6}),
                         [](const auto& info) {
                           return concat(info.param.gated ? "gated_" : "plain_", name_of(info.param.selection), "_",
                                         name_of(info.param.rows), "_", name_of(info.param.down),
                                         info.param.lines ? "" : "_without_lines",
                                         info.param.inputs < 1 ? "_cut_inputs" : "");
                         });

// Down's low-bit rows of the first layer share scales, so shards are whole groups of neurons: the first of four ranks
// has none of them.
TEST(DeviceStep, ARankMayHaveNoNeurons) {
  for (const auto& [gated, selection, lines] : {std::tuple{false, SelectionKind::range, true},
                                                {false, SelectionKind::threshold, false},
                                                {true, SelectionKind::gate, true},
                                                {true, SelectionKind::predictor, false},
                                                {true, SelectionKind::prompt, true}}) {
    std::vector<LayerRecipe> recipes(2);
    recipes[0].formats = {gated ? kInt8 : FfnFormats().gate, kInt8, kInt8};
    recipes[1].selection = selection;
    recipes[1].exact = 0.3;
    recipes[1].lines = lines;
    const std::string folder = Models::folded(gated, recipes);
    const std::vector<float> device = on_the_device(folder, WeightFormat::f32);
    EXPECT_LE(distance(device, on_the_cpu(folder, WeightFormat::f32)), kAllRounded) << name_of(selection);
    EXPECT_EQ(on_the_device(folder, WeightFormat::f32, {kAll, 4}), device) << name_of(selection);
  }
}

// All logits of a prompt of 40 tokens, `chunk` of them a step.
std::vector<float> of_a_prompt(const std::string& folder, int chunk, bool on_device) {
  LoadOptions options;
  options.dtype = WeightFormat::f32;
  if (on_device) options.backend = device_backend();
  std::vector<int32_t> tokens;
  for (int i = 0; i < 40; ++i) tokens.push_back(2 + i * 37 % 200);
  std::vector<float> out;
  with_engine(folder, 1, options, [&](Engine& engine, Communicator& communicator) {
    out = run_tokens(engine, communicator, tokens, chunk, false);
  });
  return out;
}

// More rows than a device takes at a time.
TEST(DeviceStep, APromptsInputsAreCutInSelectionStatic) {
  LayerRecipe recipe;
  recipe.selection = SelectionKind::hot;
  recipe.exact = 0.3;
  recipe.inputs = 0.6;
  const std::string folder = Models::folded(true, recipe);
  const std::vector<float> device = of_a_prompt(folder, 40, true);
  EXPECT_LE(distance(device, of_a_prompt(folder, 40, false)), kRounded);
  EXPECT_EQ(of_a_prompt(folder, 7, true), device);
}

LayerRecipe all_neurons(WeightFormat format) {
  LayerRecipe recipe;
  recipe.selection = SelectionKind::all;
  recipe.inputs = 0.5;
  recipe.exact = 0;
  recipe.lines = false;
  recipe.formats = {format, format, format};
  return recipe;
}

// Gate and up stand by input there too, where they are in low bits.
TEST(DeviceStep, AModelWithCutInputsRunsDenselyToo) {
  const std::string folder = Models::folded(true, all_neurons(kInt4));
  const Where dense{.dense = true};
  const std::vector<float> device = on_the_device(folder, WeightFormat::f32, dense);
  EXPECT_LE(distance(device, on_the_cpu(folder, WeightFormat::f32, dense)), kCoarse);
  EXPECT_GT(distance(device, on_the_device(folder, WeightFormat::f32)), kCoarse) << "nothing was cut";
  EXPECT_EQ(on_the_device(folder, WeightFormat::f32, {.chunk = 1, .ranks = 2, .dense = true}), device);
}

// Half of the inputs of gate and up, all of down: two thirds of what a prompt reads.
TEST(DeviceStep, CountsTheBytesOfTheInputsThatAreSelected) {
  LoadOptions options;
  options.backend = device_backend();
  with_engine(Models::folded(true, all_neurons(kBf16)), 1, options, [&](Engine& engine, Communicator& communicator) {
    StepPlan plan;
    plan.page_tables = {{0}};
    plan.slots = {0};
    plan.rows = {{5, 0, 0, 0, 1, 1}};
    run_step(engine, communicator, plan);
    const int64_t whole = engine.executor_bytes()[EngineStatistics::dense_ffn];
    plan.rows = {{7, 1, 0, 1, 1, 0}};
    run_step(engine, communicator, plan);
    const PhaseBytes bytes = engine.executor_bytes();
    EXPECT_EQ(bytes[EngineStatistics::dense_ffn] + bytes[EngineStatistics::fold], 0);
    EXPECT_NEAR(double(bytes[EngineStatistics::fixup]) / double(whole), 2.0 / 3, 0.1);
  });
}

}  // namespace
}  // namespace pleat::test
