#include "core/fold/layer_recipe.h"

#include <nlohmann/json.hpp>

#include "core/checkpoint/file.h"
#include "core/fold/format_text.h"
#include "kernels/check.h"

namespace pleat {
namespace {

using nlohmann::ordered_json;

std::string formats_text(const FfnFormats& formats, bool gated) {
  std::string out;
  if (gated) out = std::string(name_of(formats.gate)) + "/";
  return out + std::string(name_of(formats.up)) + "/" + std::string(name_of(formats.down));
}

}  // namespace

LayerRecipe layer_recipe_from(const ordered_json& json, bool gated) {
  PLEAT_REQUIRE(json.is_object(), "is not an object");
  LayerRecipe out;
  const auto text = [](const std::string& key, const ordered_json& value) {
    PLEAT_REQUIRE(value.is_string(), "'", key, "' is not a text");
    return value.get<std::string>();
  };
  for (const auto& [key, value] : json.items()) {
    if (key == "selection") {
      out.selection = selection_named(text(key, value));
    } else if (key == "exact") {
      PLEAT_REQUIRE(value.is_number(), "'exact' is not a number");
      out.exact = value.get<double>();
    } else if (key == "inputs") {
      PLEAT_REQUIRE(value.is_number(), "'inputs' is not a number");
      out.inputs = value.get<double>();
    } else if (key == "lines") {
      PLEAT_REQUIRE(value.is_boolean(), "'lines' is neither true nor false");
      out.lines = value.get<bool>();
    } else if (key == "predictor_bits") {
      PLEAT_REQUIRE(value.is_number_integer(), "'predictor_bits' is not a whole number");
      out.predictor_bits = value.get<int>();
    } else if (key == "fold_format") {
      out.fold_format = weight_format_named(text(key, value));
    } else if (key == "gate") {
      out.formats.gate = weight_format_named(text(key, value));
    } else if (key == "up") {
      out.formats.up = weight_format_named(text(key, value));
    } else if (key == "down") {
      out.formats.down = weight_format_named(text(key, value));
    } else {
      PLEAT_REQUIRE(false, "has an unknown field '", key, "'");
    }
  }
  check(out, gated);
  const ordered_json used = to_json(out, gated);
  for (const auto& [key, value] : json.items())
    PLEAT_REQUIRE(key == "inputs" || used.contains(key), "selection ", name_of(out.selection), " of a ",
                  gated ? "gated" : "plain", " FFN", out.lines ? "" : " without lines", " has no use for '", key, "'");
  return out;
}

std::string to_text(const LayerRecipe& recipe, bool gated) {
  const std::string formats = formats_text(recipe.formats, gated);
  const std::string inputs = recipe.cuts_inputs() ? format_text(" of %.3g%% of the inputs", 100 * recipe.inputs) : "";
  if (recipe.selection == SelectionKind::all) return formats + inputs;
  return std::string(name_of(recipe.selection)) + format_text(" %.3g%% ", 100 * recipe.exact) + formats + inputs +
         (recipe.lines ? "" : " without lines");
}

ordered_json to_json(const LayerRecipe& recipe, bool gated) {
  ordered_json out = {{"selection", name_of(recipe.selection)}};
  if (recipe.selection != SelectionKind::all) {
    out["exact"] = recipe.exact;
    out["lines"] = recipe.lines;
    if (has_predictor(recipe.selection)) out["predictor_bits"] = recipe.predictor_bits;
    if (recipe.lines) out["fold_format"] = name_of(recipe.fold_format);
  }
  if (recipe.cuts_inputs()) out["inputs"] = recipe.inputs;
  if (gated) out["gate"] = name_of(recipe.formats.gate);
  out["up"] = name_of(recipe.formats.up);
  out["down"] = name_of(recipe.formats.down);
  return out;
}

void check(const LayerRecipe& recipe, bool gated) {
  PLEAT_REQUIRE(is_for(recipe.selection, gated), "selection ", name_of(recipe.selection), " is not one for ",
                gated ? "gated" : "plain", " FFNs; those are ", selection_names(gated));
  PLEAT_REQUIRE(recipe.exact >= 0 && recipe.exact <= 1, "the exact share is ", recipe.exact, ", expected 0 to 1");
  PLEAT_REQUIRE(recipe.inputs > 0 && recipe.inputs <= 1, "the share of inputs is ", recipe.inputs,
                ", expected above 0 and at most 1");
  PLEAT_REQUIRE(!recipe.cuts_inputs() || can_cut_inputs(recipe.selection), "selection ", name_of(recipe.selection),
                " gathers ", gated ? "gate and up" : "W1",
                " by neuron, so the inputs cannot be cut; they can with all, threshold and static");
  PLEAT_REQUIRE(recipe.selection != SelectionKind::hot || recipe.exact > 0,
                "selection static needs a share of neurons above 0");
  PLEAT_REQUIRE(recipe.predictor_bits >= 1 && recipe.predictor_bits <= 3, "the predictor has 1, 2 or 3 bits, not ",
                recipe.predictor_bits);
  PLEAT_REQUIRE(recipe.fold_format == WeightFormat::int8 || recipe.fold_format == WeightFormat::bf16,
                "the fold is stored in int8 or bf16, not in ", name_of(recipe.fold_format));
  for (const WeightFormat format : {recipe.formats.gate, recipe.formats.up, recipe.formats.down})
    PLEAT_REQUIRE(format != WeightFormat::f32, "FFNs are held in bf16 or in low bits, not in f32");
}

std::vector<LayerRecipe> read_recipe(const std::filesystem::path& file, int layers, bool gated) {
  const ordered_json json = ordered_json::parse(read_whole(file), nullptr, false);
  PLEAT_REQUIRE(json.is_object() && json.contains("layers") && json["layers"].is_array(), "the recipe '", file.string(),
                "' is not JSON with a list 'layers'");
  for (const auto& [key, value] : json.items())
    PLEAT_REQUIRE(key == "layers", "the recipe '", file.string(), "' has an unknown field '", key, "'");
  PLEAT_REQUIRE(int(json["layers"].size()) == layers, "the recipe '", file.string(), "' has ", json["layers"].size(),
                " layers, the model ", layers);
  std::vector<LayerRecipe> out;
  for (const ordered_json& layer : json["layers"])
    out.push_back(with_context(concat("recipe '", file.string(), "': layer ", out.size()),
                               [&] { return layer_recipe_from(layer, gated); }));
  return out;
}

}  // namespace pleat
