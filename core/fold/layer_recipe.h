#pragma once
// What is done to each layer's FFN: who is computed exactly and in which formats (method.md section 6, recipe). A
// recipe is a JSON file {"layers": [{"selection": "range", "exact": 0.1, "up": "int4", "down": "int4", ...}, ...]} that
// people read, edit and use again; a field that is left out has the value given here, one that the selection or the FFN
// has no use for is refused.
#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "core/model/fold_spec.h"

namespace pleat {

struct LayerRecipe {
  SelectionKind selection = SelectionKind::all;
  double exact = 0;   // share of neurons computed exactly, for a token or (static) for all
  double inputs = 1;  // share of its inputs that a token's gate and up, or W1, see, the largest; 1: they are not cut
  bool lines = true;  // the others follow their lines; false: are left out
  int predictor_bits = 2;
  WeightFormat fold_format = WeightFormat::int8;
  FfnFormats formats;  // of the exact rows
  bool cuts_inputs() const { return inputs < 1; }
  bool operator==(const LayerRecipe&) const = default;
};

std::string to_text(const LayerRecipe& recipe, bool gated);  // "range 10% int4/int4"

nlohmann::ordered_json to_json(const LayerRecipe& recipe, bool gated);
// Error(invalid) in one sentence that names the file, the layer and the field.
std::vector<LayerRecipe> read_recipe(const std::filesystem::path& file, int layers, bool gated);

LayerRecipe layer_recipe_from(const nlohmann::ordered_json& json, bool gated);  // Error(invalid) naming the field

// Error(invalid) if the recipe is not one for such FFNs.
void check(const LayerRecipe& recipe, bool gated);

}  // namespace pleat
