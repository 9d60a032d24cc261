// What configurations say and how they are refused; that a family computes right is families_test.cpp's matter.
#include "core/model/blueprint.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/checkpoint/checkpoint.h"
#include "core/model/families/positions.h"
#include "kernels/check.h"
#include "tests/core/checkpoint/model_folder.h"
#include "tests/core/engine/run.h"

namespace pleat::test {
namespace {

using nlohmann::json;

// A fixture's model under a configuration changed by `patch` (a JSON merge patch: null removes).
class Changed {
 public:
  Changed(const std::string& name, const json& patch) {
    const std::filesystem::path folder = fixture("families/" + name);
    json config = json::parse(std::ifstream(folder / "config.json"));
    config.merge_patch(patch);
    folder_.write("config.json", config.dump());
    std::filesystem::create_symlink(folder / "model.safetensors", folder_.path() / "model.safetensors");
  }
  void write(const std::string& name, const std::string& text) { folder_.write(name, text); }
  Blueprint blueprint() const { return read_blueprint(Checkpoint::open(folder_.path())); }
  std::string error_of_blueprint() const {
    return message([&] { blueprint(); });
  }
  std::string error_of_loading() const {
    return message([&] {
      SelfCommunicator communicator;
      load_model(folder_.path().string(), communicator, {});
    });
  }

 private:
  template <class Work>
  static std::string message(Work work) {
    try {
      work();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::invalid);
      return error.what();
    }
    return "no error";
  }
  ModelFolder folder_;
};

void expect_all(const std::string& message, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) EXPECT_NE(message.find(part), std::string::npos) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
}

TEST(Blueprint, UnknownThingsAreRefusedByName) {
  expect_all(Changed("llama-2", {{"model_type", "mamba"}}).error_of_blueprint(), {"mamba", "llama", "gpt_neox"});
  expect_all(Changed("llama-2", {{"model_type", nullptr}}).error_of_blueprint(), {"model_type"});
  expect_all(Changed("llama-2", {{"hidden_act", "mish"}}).error_of_blueprint(), {"mish", "silu"});
  expect_all(Changed("llama-3.1", {{"rope_parameters", {{"rope_type", "longrope"}}}}).error_of_blueprint(),
             {"longrope", "yarn"});
  expect_all(Changed("gemma2", {{"layer_types", {"full_attention", "chunked_attention", "full_attention"}}})
                 .error_of_blueprint(),
             {"chunked_attention"});
  expect_all(Changed("bloom", {{"apply_residual_connection_post_layernorm", true}}).error_of_blueprint(),
             {"apply_residual_connection_post_layernorm"});
}

TEST(Blueprint, ImpossibleSizesAreRefusedByTheirField) {
  expect_all(Changed("llama-2", {{"hidden_size", nullptr}}).error_of_blueprint(), {"hidden_size"});
  expect_all(Changed("llama-2", {{"num_hidden_layers", -1}}).error_of_blueprint(), {"num_hidden_layers", "-1"});
  expect_all(Changed("llama-3.1", {{"num_key_value_heads", 4}}).error_of_blueprint(), {"num_key_value_heads", "4"});
  expect_all(Changed("gemma3", {{"layer_types", {"full_attention"}}}).error_of_blueprint(), {"layer_types"});
  expect_all(Changed("gptj", {{"rotary_dim", 7}}).error_of_blueprint(), {"7", "pairs"});
  expect_all(Changed("llama-2", {{"rms_norm_eps", 0}}).error_of_blueprint(), {"rms_norm_eps"});
}

TEST(Blueprint, AMissingOrMisshapenTensorIsRefusedWithItsLayerAndName) {
  expect_all(Changed("llama-2", {{"num_hidden_layers", 3}}).error_of_loading(), {"layer 2", "model.layers.2."});
  expect_all(Changed("llama-2", {{"intermediate_size", 111}}).error_of_loading(),
             {"layer 0", "model.layers.0.mlp.gate_proj.weight", "[110, 56]", "[111, 56]"});
  expect_all(Changed("falcon-40b", {{"num_kv_heads", 3}}).error_of_loading(),
             {"layer 0", "query_key_value.weight", "[120, 72]", "[144, 72]"});
  expect_all(Changed("gptj", {{"vocab_size", 300}}).error_of_loading(), {"lm_head.weight", "[263, 60]", "[300, 60]"});
}

TEST(Blueprint, ConfigurationsOfOlderFilesMeanTheSame) {
  const auto frequencies = [](const Changed& changed) {
    std::vector<std::vector<float>> all;
    for (const Rotary& rotary : changed.blueprint().rotaries) {
      all.push_back(rotary.frequency);
      all.back().push_back(rotary.magnitude);
    }
    return all;
  };
  struct Case {
    const char* name;
    json older;
  };
  const std::vector<Case> cases = {
      {"llama-2", {{"rope_theta", 10000.0}}},
      {"llama-3.1",
       {{"rope_theta", 500000.0},
        {"rope_scaling",
         {{"rope_type", "llama3"},
          {"factor", 8.0},
          {"low_freq_factor", 1.0},
          {"high_freq_factor", 4.0},
          {"original_max_position_embeddings", 32}}}}},
      {"llama-linear", {{"rope_scaling", {{"type", "linear"}, {"factor", 4.0}}}}},
      {"llama-yarn", {{"rope_scaling", {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 16}}}}},
      {"pythia", {{"rotary_pct", 0.25}, {"rotary_emb_base", 10000}}},
      {"phi", {{"partial_rotary_factor", 0.5}, {"rope_theta", 10000.0}}},
      {"gemma3",
       {{"rope_theta", 1000000.0},
        {"rope_local_base_freq", 10000.0},
        {"rope_scaling", {{"rope_type", "linear"}, {"factor", 8.0}}}}},
  };
  for (const Case& one : cases) {
    json patch = one.older;
    patch["rope_parameters"] = nullptr;
    EXPECT_EQ(frequencies(Changed(one.name, patch)), frequencies(Changed(one.name, json::object()))) << one.name;
  }
  // Without the change the comparison would say so.
  EXPECT_NE(frequencies(Changed("llama-2", {{"rope_parameters", nullptr}, {"rope_theta", 20000.0}})),
            frequencies(Changed("llama-2", json::object())));
}

TEST(Blueprint, EndTokensAreGenerationsElseTheModels) {
  EXPECT_EQ(Changed("llama-2", {{"eos_token_id", 7}}).blueprint().end_tokens, std::vector<int32_t>{7});
  EXPECT_EQ(Changed("llama-2", {{"eos_token_id", {7, 9, 50256}}}).blueprint().end_tokens, (std::vector<int32_t>{7, 9}));
  Changed with_generation("llama-2", {{"eos_token_id", 7}});
  with_generation.write("generation_config.json", R"({"eos_token_id": [3, 4]})");
  EXPECT_EQ(with_generation.blueprint().end_tokens, (std::vector<int32_t>{3, 4}));
  expect_all(Changed("llama-2", {{"eos_token_id", "</s>"}}).error_of_blueprint(), {"eos_token_id", "</s>"});
}

TEST(Blueprint, Gemma3InsideAModelThatAlsoSeesReadsItsTextPart) {
  const json text = json::parse(std::ifstream(fixture("families/gemma3/config.json")));
  const Blueprint blueprint = Changed("gemma3", {{"model_type", "gemma3"}, {"text_config", text}}).blueprint();
  EXPECT_EQ(blueprint.layers, 4);
  EXPECT_EQ(blueprint.attention[0].window, 12);
  EXPECT_EQ(blueprint.attention[1].window, 0);
}

// As in Google's own files of 4B, which name no heads, and of 12B.
TEST(Blueprint, Gemma3TakesForGrantedWhatItsPublishedFilesLeaveOut) {
  json text = json::parse(std::ifstream(fixture("families/gemma3/config.json")));
  for (const char* name : {"num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings",
                           "vocab_size", "sliding_window"})
    text.erase(name);
  const Blueprint blueprint = Changed("gemma3", {{"model_type", "gemma3"}, {"text_config", text}}).blueprint();
  EXPECT_EQ(blueprint.heads, 8);
  EXPECT_EQ(blueprint.kv_heads, 4);
  EXPECT_EQ(blueprint.head_size, 256);
  EXPECT_EQ(blueprint.max_positions, 131072);
  EXPECT_EQ(blueprint.vocab, 262208);
  EXPECT_EQ(blueprint.attention[0].window, 4096);
}

TEST(Blueprint, Gemma2TakesItsCapsAndWindowForGrantedUnlessAFileSaysThatThereAreNone) {
  json config = json::parse(std::ifstream(fixture("families/gemma2/config.json")));
  const std::vector<const char*> names = {"attn_logit_softcapping", "final_logit_softcapping", "sliding_window",
                                          "query_pre_attn_scalar"};
  for (const char* name : names) config.erase(name);
  Changed changed("gemma2", json::object());
  changed.write("config.json", config.dump());
  Blueprint blueprint = changed.blueprint();
  EXPECT_EQ(blueprint.attention_soft_cap, 50);
  EXPECT_EQ(blueprint.logit_soft_cap, 30);
  EXPECT_EQ(blueprint.attention[0].window, 4096);
  EXPECT_EQ(blueprint.attention[1].window, 0);
  EXPECT_EQ(blueprint.attention_scale, 1 / std::sqrt(256.0f));

  for (const char* name : names) config[name] = nullptr;
  changed.write("config.json", config.dump());
  blueprint = changed.blueprint();
  EXPECT_EQ(blueprint.attention_soft_cap, 0);
  EXPECT_EQ(blueprint.logit_soft_cap, 0);
  EXPECT_EQ(blueprint.attention[0].window, 0);
}

TEST(Blueprint, OfGemmaTheLastOfEachPeriodHasNoWindow) {
  const auto windows = [](const char* name, json patch) {
    patch["layer_types"] = nullptr;
    std::vector<int64_t> all;
    for (const LayerAttention& layer : Changed(name, patch).blueprint().attention) all.push_back(layer.window);
    return all;
  };
  EXPECT_EQ(windows("gemma2", json::object()), (std::vector<int64_t>{10, 0, 10}));
  EXPECT_EQ(windows("gemma3", json::object()), (std::vector<int64_t>{12, 12, 12, 12}));
  EXPECT_EQ(windows("gemma3", {{"sliding_window_pattern", 3}}), (std::vector<int64_t>{12, 12, 0, 12}));
}

TEST(Blueprint, Gemma3HasAWindow) {
  json config = json::parse(std::ifstream(fixture("families/gemma3/config.json")));
  config["sliding_window"] = nullptr;
  Changed changed("gemma3", json::object());
  changed.write("config.json", config.dump());
  EXPECT_THROW(changed.blueprint(), Error);
}

// The values printed in the paper (arXiv 2108.12409, section 3): 8 heads have 1/2, 1/4, ... 1/256.
TEST(AlibiSlopes, ArePowersOfTwoForEightHeads) {
  const std::vector<float> slopes = alibi_slopes(8);
  ASSERT_EQ(slopes.size(), 8u);
  for (int head = 0; head < 8; ++head) EXPECT_EQ(slopes[size_t(head)], std::exp2(-(head + 1.0f)));
}

}  // namespace
}  // namespace pleat::test
