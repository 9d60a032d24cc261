// GGUF files: the quantised formats against the gguf package (fixtures/make_gguf.py), and damaged files.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <random>

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/tokenizer_files.h"
#include "kernels/check.h"
#include "tests/core/checkpoint/gguf_writer.h"
#include "tests/core/checkpoint/model_folder.h"

namespace pleat::test {
namespace {

using nlohmann::json;

json fixture_json(const std::string& name) {
  return json::parse(std::ifstream(std::string(PLEAT_SOURCE_DIR) + "/tests/fixtures/gguf/" + name));
}

json small_metadata() {
  return {{"general.architecture", "llama"},
          {"llama.context_length", 64},
          {"llama.embedding_length", 512},
          {"llama.block_count", 1},
          {"llama.feed_forward_length", 16},
          {"llama.attention.head_count", 2},
          {"llama.attention.layer_norm_rms_epsilon", 1e-5f},
          {"tokenizer.ggml.model", "gpt2"}};
}

TEST(Gguf, BlocksAreUnpackedBitForBitAsTheGgufPackageDoes) {
  const json blocks = fixture_json("blocks.json");
  ASSERT_EQ(blocks.size(), 8u);
  for (const auto& [name, block] : blocks.items()) {
    std::string data;
    for (const json& byte : block["bytes"]) data += char(byte.get<int>());
    // Twice the same row, so that slices have something to choose from.
    const GgufBytes::Tensor embedding{"token_embd.weight", {2, 512}, block["type"], data + data};
    ModelFolder folder;
    folder.write("m.gguf", GgufBytes::file(small_metadata(), {embedding}));
    const Checkpoint checkpoint = Checkpoint::open(folder.path() / "m.gguf");
    const std::string tensor = "model.embed_tokens.weight";
    EXPECT_EQ(checkpoint.require(tensor).dtype, DType::f32);
    std::vector<float> expected;
    for (const json& value : block["values"]) expected.push_back(float(value.get<double>()));
    std::vector<float> row(512);
    checkpoint.read(tensor, 1, 2, 0, 512, row.data());
    EXPECT_EQ(std::memcmp(row.data(), expected.data(), 512 * 4), 0) << name;
    // Slices that begin and end inside blocks.
    for (const auto& [begin, end] : {std::pair{0, 1}, std::pair{31, 33}, std::pair{100, 511}, std::pair{256, 256}}) {
      std::vector<float> slice(size_t(2 * (end - begin)));
      checkpoint.read(tensor, 0, 2, begin, end, slice.data());
      for (int i = 0; i < 2 * (end - begin); ++i)
        ASSERT_EQ(slice[size_t(i)], expected[size_t(begin + i % (end - begin))]) << name << " " << begin;
    }
  }
}

TEST(Gguf, ReadsOnlyTheBlocksOfASlice) {
  const GgufBytes::Tensor embedding{"token_embd.weight", {64, 512}, 8, std::string(64 * 16 * 34, '\0')};
  ModelFolder folder;
  folder.write("m.gguf", GgufBytes::file(small_metadata(), {embedding}));
  const Checkpoint checkpoint = Checkpoint::open(folder.path() / "m.gguf");
  std::vector<float> rows(4 * 512);
  checkpoint.read("model.embed_tokens.weight", 10, 14, 0, 512, rows.data());
  EXPECT_EQ(checkpoint.bytes_read(), 4 * 16 * 34);
}

json config_of(const json& patch) {
  json metadata = small_metadata();
  metadata.merge_patch(patch);
  ModelFolder folder;
  folder.write("m.gguf", GgufBytes::file(metadata, {{"token_embd.weight", {2, 512}, 0, std::string(4096, '\0')}}));
  return Checkpoint::open(folder.path() / "m.gguf").config();
}

TEST(Gguf, TextsEndAtTheEndOfATurnToo) {
  EXPECT_EQ(config_of({{"tokenizer.ggml.eos_token_id", 1}, {"tokenizer.ggml.eot_token_id", 107}})["eos_token_id"],
            json({1, 107}));
  EXPECT_EQ(config_of({{"tokenizer.ggml.eos_token_ids", {3, 4}}})["eos_token_id"], json({3, 4}));
}

// Files from before the key of the type, and such that leave it out.
TEST(Gguf, AFactorAloneScalesPositionsLinearly) {
  const auto scaling = [](const json& patch) { return config_of(patch)["rope_parameters"]; };
  const json factor = scaling({{"llama.rope.scaling.type", "linear"}, {"llama.rope.scaling.factor", 8.0}});
  EXPECT_EQ(factor["factor"], 8.0);
  EXPECT_EQ(scaling({{"llama.rope.scaling.factor", 8.0}}), factor);
  EXPECT_EQ(scaling({{"llama.rope.scale_linear", 8.0}}), factor);
  EXPECT_EQ(scaling({{"llama.rope.scale_linear", 1.0}}), scaling(json::object()));
}

// Hugging Face cuts head_dim * partial_rotary_factor off to an integer.
TEST(Gguf, TheShareOfAHeadThatIsRotatedGivesItsWidthBack) {
  for (const auto& [head, width] :
       {std::pair(88, 60), {88, 30}, {100, 58}, {104, 60}, {104, 30}, {64, 32}, {256, 64}}) {
    const json config = config_of({{"llama.attention.key_length", head},
                                   {"llama.attention.value_length", head},
                                   {"llama.rope.dimension_count", width}});
    const double part = config["rope_parameters"]["partial_rotary_factor"];
    EXPECT_EQ(int(head * part), width) << head;
  }
}

TEST(Gguf, YarnsNumbersAreHuggingFaces) {
  const auto yarn = [](json patch) {
    patch.update({{"llama.rope.scaling.type", "yarn"},
                  {"llama.rope.scaling.factor", 4.0},
                  {"llama.rope.scaling.original_context_length", 16},
                  {"llama.rope.scaling.finetuned", true}});
    return config_of(patch)["rope_parameters"];
  };
  const json plain = yarn(json::object());
  EXPECT_EQ(plain["original_max_position_embeddings"], 16);
  EXPECT_FALSE(plain.contains("attention_factor"));
  const json all = yarn({{"llama.rope.scaling.yarn_beta_fast", 24.0},
                         {"llama.rope.scaling.yarn_beta_slow", 2.0},
                         {"llama.rope.scaling.yarn_attn_factor", 1.5},
                         {"llama.rope.scaling.yarn_ext_factor", 1.0}});
  EXPECT_EQ(all["beta_fast"], 24.0);
  EXPECT_EQ(all["beta_slow"], 2.0);
  EXPECT_EQ(all["attention_factor"], 1.5);
  // As llama.cpp does, on top of what the factor gives.
  EXPECT_DOUBLE_EQ(yarn({{"llama.rope.scaling.attn_factor", 0.5}})["attention_factor"],
                   0.5 * (0.1 * std::log(4.0) + 1));
}

TEST(Gguf, AListOfLayersWithAWindowIsHuggingFacesLayerTypes) {
  const std::string key = "llama.attention.sliding_window_pattern";
  EXPECT_EQ(config_of({{key, {true, false}}})["layer_types"], json({"sliding_attention", "full_attention"}));
  EXPECT_FALSE(config_of(json::object()).contains("layer_types"));
}

TEST(Gguf, WhatIsNotKnownIsRefusedByName) {
  const GgufBytes::Tensor embedding{"token_embd.weight", {2, 512}, 0, std::string(4096, '\0')};
  const auto refusal = [&](const json& patch, std::vector<GgufBytes::Tensor> tensors, auto use) -> std::string {
    json metadata = small_metadata();
    metadata.merge_patch(patch);
    ModelFolder folder;
    folder.write("m.gguf", GgufBytes::file(metadata, tensors));
    try {
      use(folder.path() / "m.gguf");
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  const auto open = [](const std::filesystem::path& path) { Checkpoint::open(path); };
  const auto has = [](const std::string& message, const char* part) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  has(refusal({{"general.architecture", "mamba"}}, {embedding}, open), "'mamba'");
  has(refusal({{"llama.block_count", nullptr}}, {embedding}, open), "'llama.block_count'");
  has(refusal({{"llama.rope.scaling.type", "longrope"}}, {embedding}, open), "longrope");
  has(refusal({{"llama.rope.scaling.alpha", 2.0}}, {embedding}, open), "'llama.rope.scaling.alpha'");
  has(refusal({{"llama.rope.scaling.attn_factor", 2.0}}, {embedding}, open), "'llama.rope.scaling.attn_factor'");
  has(refusal({{"llama.rope.scaling.yarn_ext_factor", 0.5}, {"llama.rope.scaling.type", "yarn"}}, {embedding}, open),
      "'llama.rope.scaling.yarn_ext_factor' is 0.5");
  has(refusal({{"llama.attention.sliding_window_pattern", 2}}, {embedding}, open), "sliding_window_pattern");
  has(refusal({{"split.no", 1}, {"split.count", 3}}, {}, open), "is part 2 of 3; join them with llama-gguf-split");
  has(refusal({{"split.no", 0}, {"split.count", 1}}, {}, open), "token_embd.weight");
  has(refusal(json::object(), {}, open), "token_embd.weight");
  GgufBytes::Tensor strange = embedding;
  for (const auto& [type, bytes, name] :
       {std::tuple{16u, 2 * 2 * 66, "the dtype IQ2_XXS"}, std::tuple{10u, 2 * 2 * 84, "the dtype Q2_K"},
        std::tuple{39u, 2 * 16 * 17, "the dtype MXFP4"}, std::tuple{99u, 8, "the dtype number 99 of ggml"}}) {
    strange.type = type;
    strange.data.resize(size_t(bytes));
    has(refusal(json::object(), {strange},
                [](const auto& path) { Checkpoint::open(path).read_f32("model.embed_tokens.weight"); }),
        name);
  }
  const GgufBytes::Tensor factors{"rope_freqs.weight", {128}, 0, std::string(512, '\1')};
  has(refusal({{"llama.rope.scaling.type", "linear"}, {"llama.rope.scaling.factor", 2.0}}, {embedding, factors}, open),
      "rope_freqs.weight beside rope.scaling.type 'linear'");
  has(refusal({{"llama.attention.head_count_kv", 0}}, {embedding}, open), "head_count_kv 0");
  has(refusal({{"llama.attention.head_count_kv", 3}}, {embedding}, open), "head_count_kv 3");
  // Rows of heads that are reordered.
  const GgufBytes::Tensor part_of_a_head{"blk.0.attn_q.bias", {300}, 0, std::string(1200, '\0')};
  has(refusal(json::object(), {embedding, part_of_a_head}, open), "no heads of 256");
  const GgufBytes::Tensor quantised{"blk.0.attn_q.bias", {512}, 8, std::string(16 * 34, '\1')};
  has(refusal(json::object(), {embedding, quantised},
              [](const auto& path) { Checkpoint::open(path).read_f32("model.layers.0.self_attn.q_proj.bias"); }),
      "quantised");
  const json llama = small_metadata();
  json falcon = {{"general.architecture", "falcon"}};
  for (const auto& [key, value] : llama.items())
    if (key.starts_with("llama.")) falcon["falcon." + key.substr(6)] = value;
  const GgufBytes::Tensor fused{"blk.0.attn_qkv.weight", {512, 512}, 0, std::string(512 * 512 * 4, '\0')};
  has(refusal(falcon, {embedding, fused}, open), "2 + 2 x 2 heads");
  has(refusal({{"tokenizer.ggml.model", "rwkv"}}, {embedding}, [](const auto& path) { read_tokenizer_files(path); }),
      "tokenizer.ggml.tokens");
}

TEST(Gguf, DoesNotGuessHowTextIsCutIntoWords) {
  const auto refusal = [](const char* architecture, const json& pre) -> std::string {
    json metadata = {{"general.architecture", architecture},
                     {"tokenizer.ggml.model", "gpt2"},
                     {"tokenizer.ggml.tokens", {"a", "b", "ab"}},
                     {"tokenizer.ggml.merges", {"a b"}}};
    if (!pre.is_null()) metadata["tokenizer.ggml.pre"] = pre;
    ModelFolder folder;
    folder.write("m.gguf", GgufBytes::file(metadata, {}));
    try {
      read_tokenizer_files(folder.path() / "m.gguf");
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  for (const json& pre : {json(), json("default")}) {
    EXPECT_EQ(refusal("gpt2", pre), "");
    EXPECT_EQ(refusal("phi2", pre), "");
    EXPECT_NE(refusal("llama", pre).find("tokenizer.ggml.pre"), std::string::npos);
  }
  EXPECT_EQ(refusal("llama", "gpt-2"), "");
}

TEST(Gguf, DamagedFilesAreRefusedWithoutHarm) {
  std::vector<GgufBytes::Tensor> tensors = {{"token_embd.weight", {2, 512}, 8, std::string(2 * 16 * 34, '\1')},
                                            {"blk.0.attn_norm.weight", {512}, 0, std::string(2048, '\0')}};
  const std::string good = GgufBytes::file(small_metadata(), tensors);
  const auto use = [](const std::string& bytes) {
    ModelFolder folder;
    folder.write("m.gguf", bytes);
    try {
      const Checkpoint checkpoint = Checkpoint::open(folder.path() / "m.gguf");
      for (const std::string& name : checkpoint.names()) checkpoint.read_f32(name);
      return true;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::invalid) << error.what();
      return false;
    }
  };
  EXPECT_TRUE(use(good));
  for (size_t length = 0; length < good.size() - 2048 - 2 * 16 * 34; length += 3)
    EXPECT_FALSE(use(good.substr(0, length))) << length;
  EXPECT_FALSE(use(good.substr(0, good.size() - 100)));
  std::mt19937_64 random(9);
  for (int trial = 0; trial < 400; ++trial) {
    std::string bad = good;
    for (int i = 0; i < 2; ++i) bad[random() % 700] = char(random());
    use(bad);
  }
}

}  // namespace
}  // namespace pleat::test
