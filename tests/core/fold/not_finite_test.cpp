// A model whose activations are no numbers is neither folded nor quantised.
#include <limits>

#include <gtest/gtest.h>

#include "core/fold/fold.h"
#include "core/fold/quantize.h"
#include "kernels/check.h"
#include "tests/core/engine/run.h"
#include "tests/core/rewritten_model.h"
#include "tests/temporary_folder.h"

namespace pleat::test {
namespace {

const std::string kText = PLEAT_SOURCE_DIR "/examples/calibration.txt";

class NotFinite : public testing::TestWithParam<const char*> {
 protected:
  NotFinite() {
    rewrite_model(fixture("families/llama-3.1"), scratch_ / "model",
                  [](const std::string& name, std::vector<float>& values) {
                    if (name.ends_with(GetParam()) && !values.empty())
                      values[5] = std::numeric_limits<float>::quiet_NaN();
                    return name;
                  });
    std::filesystem::copy(fixture("families/tokenizer.json"), scratch_ / "model");
  }

  template <class Options, class Make>
  void expect_refused(Make make) {
    Options options;
    options.model = scratch_ / "model";
    options.out = scratch_ / "out";
    options.text = kText;
    options.max_tokens = 1024;
    options.oversubscribed = true;
    try {
      make(options);
      FAIL() << "made of numbers that are none";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::invalid);
      EXPECT_EQ(std::string(error.what()).find("in layer 1 the text gives activations that are no finite numbers"), 0u)
          << error.what();
    }
    EXPECT_FALSE(std::filesystem::exists(scratch_ / "out"));
  }

  const TemporaryFolder scratch_;
};

TEST_P(NotFinite, AreRefusedNamingTheLayer) {
  expect_refused<FoldOptions>([](const FoldOptions& options) { fold_model(options); });
  expect_refused<QuantizeOptions>([](const QuantizeOptions& options) { quantize_model(options); });
}

// Without a text nothing runs that would show it.
TEST(NotFiniteWeights, AreNotQuantisedToHealthyOnes) {
  for (const float value : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const TemporaryFolder scratch;
    rewrite_model(fixture("families/llama-3.1"), scratch / "model",
                  [&](const std::string& name, std::vector<float>& values) {
                    if (name.ends_with("layers.1.mlp.up_proj.weight") && !values.empty()) values[5] = value;
                    return name;
                  });
    QuantizeOptions options;
    options.model = scratch / "model";
    options.out = scratch / "out";
    for (const WeightFormat format : {WeightFormat::int8, WeightFormat::int4, WeightFormat::planes4}) {
      options.gate_up = format;
      try {
        quantize_model(options);
        FAIL() << "made of a number that is none";
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::invalid);
        EXPECT_NE(std::string(error.what()).find("layers.1.mlp.up_proj.weight' holds a number that is not finite"),
                  std::string::npos)
            << error.what();
      }
      EXPECT_FALSE(std::filesystem::exists(scratch / "out"));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Weights, NotFinite,
                         testing::Values("layers.1.post_attention_layernorm.weight", "layers.1.mlp.up_proj.weight"),
                         [](const auto& info) { return info.index == 0 ? "Norm" : "Up"; });

}  // namespace
}  // namespace pleat::test
