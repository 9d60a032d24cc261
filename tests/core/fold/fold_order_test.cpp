// A folder's neurons stand so that ranks share the work of the exact ones.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "core/checkpoint/checkpoint.h"
#include "core/fold/fold.h"
#include "tests/core/engine/run.h"
#include "tests/core/rewritten_model.h"
#include "tests/temporary_folder.h"

namespace pleat::test {
namespace {

// 32 of 170 neurons, in 4 runs of 8, have large activations for every token (that go nowhere): each of the 32 virtual
// shards gets one.
TEST(FoldModel, SpreadsNeuronsThatAreAlwaysExactOverTheRanks) {
  const TemporaryFolder folder;
  rewrite_model(fixture("families/gpt2"), folder / "model", [](const std::string& name, std::vector<float>& values) {
    const bool bias = name.ends_with("mlp.c_fc.bias"), down = name.ends_with("mlp.c_proj.weight");
    for (size_t n = 0; n < 128 && !values.empty(); ++n) {
      if (n % 32 < 8 && bias) values[n] = 30;
      if (n % 32 < 8 && down) std::fill_n(values.begin() + int64_t(n) * 60, 60, 0.0f);
    }
    return name;
  });
  std::filesystem::copy(fixture("families/tokenizer.json"), folder / "model");
  FoldOptions options;
  options.model = folder / "model";
  options.text = PLEAT_SOURCE_DIR "/examples/calibration.txt";
  options.out = folder / "folded";
  options.selection = SelectionKind::threshold;
  options.reduction = 0.1;
  options.max_tokens = 1024;
  options.oversubscribed = true;
  fold_model(options);
  const Checkpoint folded = Checkpoint::open(folder / "folded");
  for (const int layer : {0, 1}) {
    const std::vector<float> bias = folded.read_f32("transformer.h." + std::to_string(layer) + ".mlp.c_fc.bias");
    ASSERT_EQ(std::ranges::count(bias, 30.0f), 32);
    for (const int64_t ranks : {2, 4})
      for (int64_t rank = 0; rank < ranks; ++rank)
        EXPECT_EQ(std::count(bias.begin() + 170 * rank / ranks, bias.begin() + 170 * (rank + 1) / ranks, 30.0f),
                  32 / ranks)
            << "layer " << layer << ", rank " << rank << " of " << ranks;
  }
}

}  // namespace
}  // namespace pleat::test
