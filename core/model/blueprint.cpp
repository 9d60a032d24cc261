#include "core/model/blueprint.h"

#include <map>

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/json_file.h"
#include "core/model/config.h"
#include "core/model/families/families.h"

namespace pleat {

namespace {

// "eos_token_id": a number, a list of numbers, or nothing. Ids that the vocabulary does not have are never met.
std::vector<int32_t> end_tokens_of(const nlohmann::json& config, const std::string& file, int64_t vocab) {
  std::vector<int32_t> tokens;
  const auto found = config.find("eos_token_id");
  if (found == config.end() || found->is_null()) return tokens;
  for (const nlohmann::json& token : found->is_array() ? *found : nlohmann::json::array({*found})) {
    PLEAT_REQUIRE(token.is_number_integer(), file, ": eos_token_id has ", token.dump(), ", which is no token id");
    const int64_t id = token.get<int64_t>();
    if (id >= 0 && id < vocab) tokens.push_back(int32_t(id));
  }
  return tokens;
}

std::vector<int32_t> read_end_tokens(const Checkpoint& checkpoint, int64_t vocab) {
  const auto generation = checkpoint.folder() / "generation_config.json";
  std::error_code unreadable;
  if (std::filesystem::exists(generation, unreadable)) {
    const nlohmann::json config = read_json_file(generation);
    PLEAT_REQUIRE(config.is_object(), generation, " is no JSON object");
    std::vector<int32_t> tokens = end_tokens_of(config, "generation_config.json", vocab);
    if (!tokens.empty()) return tokens;
  }
  return end_tokens_of(checkpoint.config(), "config.json", vocab);
}

}  // namespace

WeightFormat Blueprint::format_of(Part part, int layer, WeightFormat floats) const {
  const auto it = quantised.find(source(part, layer).weight);
  return it == quantised.end() ? floats : it->second;
}

FfnFormats Blueprint::ffn_formats(int layer, WeightFormat floats) const {
  return {gated ? format_of(Part::ffn_gate, layer, floats) : floats, format_of(Part::ffn_up, layer, floats),
          format_of(Part::ffn_down, layer, floats)};
}

const LayerFoldSpec& Blueprint::layer_fold(int layer) const {
  static const LayerFoldSpec dense;
  return fold ? fold->layers[size_t(layer)] : dense;
}

int64_t Blueprint::held_neurons(int layer) const {
  const LayerFoldSpec& spec = layer_fold(layer);
  return spec.selection == SelectionKind::hot ? spec.neurons : neurons;
}

namespace {

void check_fold(const Blueprint& blueprint) {
  if (!blueprint.fold) return;
  PLEAT_REQUIRE(int(blueprint.fold->layers.size()) == blueprint.layers, "the checkpoint's fold has ",
                blueprint.fold->layers.size(), " layers, the model ", blueprint.layers);
  for (int layer = 0; layer < blueprint.layers; ++layer) {
    const LayerFoldSpec& spec = blueprint.layer_fold(layer);
    PLEAT_REQUIRE(is_for(spec.selection, blueprint.gated), "layer ", layer, " of the checkpoint's fold has selection ",
                  name_of(spec.selection), ", which is not one for ", blueprint.gated ? "gated" : "plain", " FFNs");
    PLEAT_REQUIRE(spec.neurons <= blueprint.neurons, "layer ", layer, " of the checkpoint's fold keeps ", spec.neurons,
                  " neurons of ", blueprint.neurons);
  }
}

// A head is a leaf of the tree of sums, a group of inputs shares a scale: groups must not cross heads.
void check_quantised(const Blueprint& blueprint) {
  for (int layer = 0; layer < blueprint.layers; ++layer) {
    const auto format = [&](Part part) { return blueprint.format_of(part, layer, WeightFormat::f32); };
    PLEAT_REQUIRE(!is_low_bit(format(Part::attention_output)) || blueprint.head_size % kGroup == 0, "layer ", layer,
                  ": the attention's output is quantised in groups of ", kGroup, " inputs, but heads have ",
                  blueprint.head_size);
    PLEAT_REQUIRE(format(Part::query) == format(Part::key) && format(Part::query) == format(Part::value), "layer ",
                  layer, ": query, key and value are quantised differently");
  }
}

}  // namespace

Blueprint read_blueprint(const Checkpoint& checkpoint) {
  static const std::map<std::string, Blueprint (*)(const Checkpoint&, const Config&)> families = {
      {"bloom", bloom_blueprint},     {"falcon", falcon_blueprint},
      {"gemma", gemma_blueprint},     {"gemma2", gemma2_blueprint},
      {"gemma3", gemma3_blueprint},   {"gemma3_text", gemma3_blueprint},
      {"gpt2", gpt2_blueprint},       {"gpt_neox", gpt_neox_blueprint},
      {"gptj", gptj_blueprint},       {"llama", llama_blueprint},
      {"mistral", mistral_blueprint}, {"opt", opt_blueprint},
      {"phi", phi_blueprint},         {"qwen2", qwen2_blueprint},
      {"qwen3", qwen3_blueprint},     {"starcoder2", starcoder2_blueprint},
  };
  const Config config(checkpoint.config());
  const std::string family = config.text_or("model_type", "");
  const auto it = families.find(family);
  if (it == families.end()) {
    std::string known;
    for (const auto& [name, _] : families) known += (known.empty() ? "" : ", ") + name;
    PLEAT_REQUIRE(false, "config.json: unknown model_type '", family, "', known: ", known);
  }
  Blueprint blueprint = it->second(checkpoint, config);
  blueprint.end_tokens = read_end_tokens(checkpoint, blueprint.vocab);
  if (blueprint.embedding == 0) blueprint.embedding = blueprint.hidden;
  if (blueprint.attention.empty()) blueprint.attention.resize(size_t(blueprint.layers));
  blueprint.family = family;
  if (checkpoint.metadata().contains("fold"))
    blueprint.fold = fold_spec_from_metadata(checkpoint.metadata()["fold"].get<std::string>());
  if (checkpoint.metadata().contains("quantised"))
    blueprint.quantised = quantised_tensors_from_metadata(checkpoint.metadata()["quantised"].get<std::string>());
  check_quantised(blueprint);
  check_fold(blueprint);
  return blueprint;
}

}  // namespace pleat
