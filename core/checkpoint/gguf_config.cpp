// config.json from GGUF's metadata.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <set>

#include "core/checkpoint/gguf_model.h"
#include "kernels/check.h"

namespace pleat {
namespace {

using nlohmann::json;

// Typed reads of the metadata under "<architecture>.".
class Keys {
 public:
  Keys(const GgufFile& gguf, const File& file) : gguf_(gguf), file_(file) {
    const auto found = gguf.metadata.find("general.architecture");
    PLEAT_REQUIRE(found != gguf.metadata.end() && found->is_string(), file.path(), " has no general.architecture");
    architecture_ = found->get<std::string>();
  }
  const std::string& architecture() const { return architecture_; }
  const File& file() const { return file_; }

  const json* find(const std::string& key) const {
    const auto found = gguf_.metadata.find(architecture_ + "." + key);
    return found == gguf_.metadata.end() ? nullptr : &*found;
  }
  int64_t integer(const std::string& key) const {
    const json* value = find(key);
    PLEAT_REQUIRE(value && value->is_number_integer(), file_.path(), " has no whole number '", architecture_, ".", key,
                  "'");
    const bool small = value->is_number_unsigned() ? value->get<uint64_t>() < uint64_t(1) << 62 : true;
    PLEAT_REQUIRE(small, file_.path(), ": '", architecture_, ".", key, "' is impossibly large");
    return value->get<int64_t>();
  }
  int64_t integer_or(const std::string& key, int64_t fallback) const { return find(key) ? integer(key) : fallback; }
  double number_or(const std::string& key, double fallback) const {
    const json* value = find(key);
    return value && value->is_number() ? value->get<double>() : fallback;
  }
  std::string text_or(const std::string& key, const std::string& fallback) const {
    const json* value = find(key);
    return value && value->is_string() ? value->get<std::string>() : fallback;
  }
  // What follows `prefix` in the keys that begin with it.
  std::vector<std::string> under(const std::string& prefix) const {
    std::vector<std::string> names;
    const std::string whole = architecture_ + "." + prefix;
    for (const auto& [key, _] : gguf_.metadata.items())
      if (key.starts_with(whole)) names.push_back(key.substr(whole.size()));
    return names;
  }
  const GgufTensor* tensor(const std::string& name) const {
    for (const GgufTensor& tensor : gguf_.tensors)
      if (tensor.name == name) return &tensor;
    return nullptr;
  }

 private:
  const GgufFile& gguf_;
  const File& file_;
  std::string architecture_;
};

// Llama 3.1's stretched frequencies stand in the file as a factor each. Hugging Face knows them by four numbers, of
// which all published models share three; that these give the factors is checked.
json llama3_scaling(const Keys& keys, const GgufTensor& factors, int64_t head_size, double theta) {
  PLEAT_REQUIRE(factors.type == 0 && factors.shape == std::vector<int64_t>{head_size / 2} &&
                    factors.offset + uint64_t(head_size) * 2 <= keys.file().size(),
                keys.file().path(), ": rope_freqs.weight is not one F32 for each rotated pair");
  std::vector<float> stored(size_t(head_size / 2));
  keys.file().read(factors.offset, stored.size() * sizeof(float), stored.data());
  const double factor = *std::max_element(stored.begin(), stored.end()), low = 1, high = 4, original = 8192;
  for (size_t i = 0; i < stored.size(); ++i) {
    const double wavelength = 2 * std::numbers::pi * std::pow(theta, 2.0 * double(i) / double(head_size));
    const double smooth = std::clamp((original / wavelength - low) / (high - low), 0.0, 1.0);
    const double expected = 1 / ((1 - smooth) / factor + smooth);
    PLEAT_REQUIRE(std::fabs(stored[i] - expected) <= 1e-3 * expected, keys.file().path(),
                  ": rope_freqs.weight is not Llama 3.1's scaling with factor ", factor);
  }
  return {{"rope_type", "llama3"},
          {"factor", factor},
          {"low_freq_factor", low},
          {"high_freq_factor", high},
          {"original_max_position_embeddings", int64_t(original)}};
}

// What Hugging Face's configuration cannot say is refused.
void check_scaling(const Keys& keys, bool yarn) {
  static const std::set<std::string> known = {"type",
                                              "factor",
                                              "original_context_length",
                                              "finetuned",
                                              "attn_factor",
                                              "yarn_attn_factor",
                                              "yarn_beta_fast",
                                              "yarn_beta_slow",
                                              "yarn_ext_factor",
                                              "yarn_log_multiplier"};
  for (const std::string& name : keys.under("rope.scaling."))
    PLEAT_REQUIRE(known.contains(name), keys.file().path(), ": unknown key '", keys.architecture(), ".rope.scaling.",
                  name, "'");
  const auto require = [&](const std::string& name, double only) {
    const double value = keys.number_or(name, only);
    PLEAT_REQUIRE(value == only, keys.file().path(), ": '", keys.architecture(), ".", name, "' is ", value,
                  ", expected ", only);
  };
  require("rope.scaling.yarn_ext_factor", yarn ? 1 : 0);
  require("rope.scaling.yarn_log_multiplier", 0);
  if (!yarn) require("rope.scaling.attn_factor", 1);
}

void add_yarn(json& rope, const Keys& keys, double factor) {
  for (const auto& [key, name] :
       {std::pair{"rope.scaling.yarn_beta_fast", "beta_fast"}, std::pair{"rope.scaling.yarn_beta_slow", "beta_slow"},
        std::pair{"rope.scaling.yarn_attn_factor", "attention_factor"}})
    if (keys.find(key)) rope[name] = keys.number_or(key, 0);
  // llama.cpp multiplies by it what Hugging Face would have without.
  if (keys.find("rope.scaling.attn_factor")) {
    const double without = rope.value("attention_factor", 0.1 * std::log(std::max(1.0, factor)) + 1);
    rope["attention_factor"] = without * keys.number_or("rope.scaling.attn_factor", 1);
  }
}

json rope_parameters(const Keys& keys, int64_t head_size, double default_theta) {
  const double theta = keys.number_or("rope.freq_base", default_theta);
  json rope = {{"rope_type", "default"}};
  const double factor = keys.number_or("rope.scaling.factor", keys.number_or("rope.scale_linear", 1));
  const std::string type = keys.text_or("rope.scaling.type", factor > 0 && factor != 1 ? "linear" : "none");
  PLEAT_REQUIRE(type == "none" || type == "linear" || type == "yarn", keys.file().path(),
                ": unknown rope.scaling.type '", type, "', known: none, linear, yarn");
  check_scaling(keys, type == "yarn");
  if (type != "none") {
    PLEAT_REQUIRE(!keys.tensor("rope_freqs.weight"), keys.file().path(),
                  ": rope_freqs.weight beside rope.scaling.type '", type, "' is not supported");
    rope = {{"rope_type", type}, {"factor", factor}};
    if (keys.find("rope.scaling.original_context_length"))
      rope["original_max_position_embeddings"] = keys.integer("rope.scaling.original_context_length");
    if (type == "yarn") add_yarn(rope, keys, factor);
  } else if (const GgufTensor* factors = keys.tensor("rope_freqs.weight")) {
    rope = llama3_scaling(keys, *factors, head_size, theta);
  }
  rope["rope_theta"] = theta;
  const int64_t dims = keys.integer_or("rope.dimension_count", head_size);
  if (dims != head_size) {
    const double part = double(dims) / double(head_size);
    // The product with head_size is cut off, and shall be dims.
    rope["partial_rotary_factor"] = int64_t(double(head_size) * part) < dims ? std::nextafter(part, 1.0) : part;
  }
  return rope;
}

// A flag a layer, or n, where Gemma's last of each n layers has no window.
void add_window_pattern(json& config, const Keys& keys, bool gemma) {
  const std::string key = "attention.sliding_window_pattern";
  const json* pattern = keys.find(key);
  if (!pattern) return;
  if (!pattern->is_array()) {
    PLEAT_REQUIRE(gemma, keys.file().path(), ": '", keys.architecture(), ".", key, "' is not supported");
    config["sliding_window_pattern"] = keys.integer(key);
    return;
  }
  for (const json& slides : *pattern) {
    PLEAT_REQUIRE(slides.is_boolean(), keys.file().path(), ": '", keys.architecture(), ".", key, "' holds no flags");
    config["layer_types"].push_back(slides.get<bool>() ? "sliding_attention" : "full_attention");
  }
}

void add_gpt2(json& config, const Keys& keys) {
  config.update({{"n_embd", keys.integer("embedding_length")},
                 {"n_layer", keys.integer("block_count")},
                 {"n_head", keys.integer("attention.head_count")},
                 {"n_positions", keys.integer("context_length")},
                 {"n_inner", keys.integer("feed_forward_length")},
                 {"layer_norm_epsilon", keys.number_or("attention.layer_norm_epsilon", 1e-5)},
                 {"pleat_output_major", true}});
}

void add_falcon(json& config, const Keys& keys) {
  const bool two_norms = keys.tensor("blk.0.attn_norm_2.weight");
  const int64_t kv_heads = config["num_key_value_heads"];
  const bool grouped = two_norms || kv_heads > 1;
  config.update({{"num_kv_heads", kv_heads},
                 {"new_decoder_architecture", grouped},
                 {"num_ln_in_parallel_attn", two_norms ? 2 : 1},
                 {"multi_query", kv_heads == 1},
                 {"ffn_hidden_size", config["intermediate_size"]},
                 {"layer_norm_epsilon", keys.number_or("attention.layer_norm_epsilon", 1e-5)}});
}

// GGUF does not say by what queries are divided: the root of the head size, or in the largest model of each family of
// hidden / heads (Gemma 2 27B: 46 layers, Gemma 3 27B: 62).
void add_gemma(json& config, const Keys& keys, int64_t head_size) {
  const int64_t layers = config["num_hidden_layers"];
  const bool largest = layers == (keys.architecture() == "gemma2" ? 46 : 62);
  const int64_t scalar =
      largest ? config["hidden_size"].get<int64_t>() / config["num_attention_heads"].get<int64_t>() : head_size;
  config.update({{"hidden_activation", "gelu_pytorch_tanh"}, {"query_pre_attn_scalar", scalar}});
  for (const auto& [key, name] : {std::pair{"attn_logit_softcapping", "attn_logit_softcapping"},
                                  std::pair{"final_logit_softcapping", "final_logit_softcapping"}})
    if (keys.find(key)) config[name] = keys.number_or(key, 0);
  if (keys.architecture() == "gemma3") {
    json global = config["rope_parameters"];
    config["rope_parameters"] = {
        {"full_attention", global},
        {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", keys.number_or("rope.freq_base_swa", 10000)}}}};
  }
}

}  // namespace

nlohmann::json gguf_config(const GgufFile& gguf, const File& file) {
  static const std::map<std::string, std::string> families = {{"llama", "llama"},        {"gpt2", "gpt2"},
                                                              {"falcon", "falcon"},      {"phi2", "phi"},
                                                              {"qwen2", "qwen2"},        {"qwen3", "qwen3"},
                                                              {"gemma", "gemma"},        {"gemma2", "gemma2"},
                                                              {"gemma3", "gemma3_text"}, {"starcoder2", "starcoder2"}};
  const Keys keys(gguf, file);
  const auto family = families.find(keys.architecture());
  if (family == families.end()) {
    std::string known;
    for (const auto& [name, _] : families) known += (known.empty() ? "" : ", ") + name;
    PLEAT_REQUIRE(false, file.path(), ": unknown architecture '", keys.architecture(), "', known: ", known);
  }
  const GgufTensor* embedding = keys.tensor("token_embd.weight");
  PLEAT_REQUIRE(embedding && embedding->shape.size() == 2, file.path(), " has no matrix token_embd.weight");
  json config = {{"model_type", family->second},
                 {"vocab_size", embedding->shape[0]},
                 {"tie_word_embeddings", keys.tensor("output.weight") == nullptr}};
  json ends = json::array();  // of texts, turns and messages
  for (const char* name : {"eos_token_id", "eot_token_id", "eom_token_id", "eos_token_ids"}) {
    const auto found = gguf.metadata.find(concat("tokenizer.ggml.", name));
    if (found == gguf.metadata.end()) continue;
    for (const json& token : found->is_array() ? *found : json::array({*found})) ends.push_back(token);
  }
  if (!ends.empty()) config["eos_token_id"] = ends;
  if (keys.architecture() == "gpt2") {
    add_gpt2(config, keys);
    return config;
  }

  const int64_t hidden = keys.integer("embedding_length"), heads = keys.integer("attention.head_count");
  PLEAT_REQUIRE(hidden > 0 && heads > 0, file.path(), ": embedding_length ", hidden, " and head_count ", heads,
                " are impossible");
  const int64_t head_size = keys.integer_or("attention.key_length", hidden / heads);
  const int64_t kv_heads = keys.integer_or("attention.head_count_kv", heads);
  PLEAT_REQUIRE(kv_heads > 0 && heads % kv_heads == 0, file.path(), ": attention.head_count_kv ", kv_heads,
                " does not divide head_count ", heads);
  const bool falcon = keys.architecture() == "falcon", gemma3 = keys.architecture() == "gemma3";
  const bool gemma = gemma3 || keys.architecture() == "gemma2";
  PLEAT_REQUIRE(head_size > 0, file.path(), ": attention.key_length is ", head_size);
  config.update({{"hidden_size", hidden},
                 {"num_hidden_layers", keys.integer("block_count")},
                 {"num_attention_heads", heads},
                 {"num_key_value_heads", kv_heads},
                 {"head_dim", head_size},
                 {"intermediate_size", keys.integer("feed_forward_length")},
                 {"max_position_embeddings", keys.integer("context_length")},
                 {"rope_parameters", rope_parameters(keys, head_size, gemma3 ? 1e6 : 10000)}});
  const double epsilon = keys.number_or("attention.layer_norm_epsilon", 1e-5);
  config.update({{"rms_norm_eps", keys.number_or("attention.layer_norm_rms_epsilon", 1e-6)},
                 {"layer_norm_eps", epsilon},
                 {"norm_epsilon", epsilon}});
  if (keys.find("attention.sliding_window")) config["sliding_window"] = keys.integer("attention.sliding_window");
  add_window_pattern(config, keys, gemma);
  if (keys.architecture() == "llama") {
    config["attention_bias"] = keys.tensor("blk.0.attn_q.bias") != nullptr;
    config["mlp_bias"] = keys.tensor("blk.0.ffn_up.bias") != nullptr;
    if (keys.find("attention.sliding_window")) config["model_type"] = "mistral";
  }
  if (falcon) add_falcon(config, keys);
  if (gemma) add_gemma(config, keys, head_size);
  return config;
}

}  // namespace pleat
