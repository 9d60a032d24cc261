#include "core/fold/recipe_bytes.h"

#include <algorithm>
#include <cmath>

namespace pleat {

double dense_ffn_bytes(const Blueprint& blueprint) {
  return double(matrix_bytes(WeightFormat::bf16, blueprint.hidden, blueprint.neurons)) * (blueprint.gated ? 3 : 2) *
         blueprint.layers;
}

double read_share(const Blueprint& blueprint, const LayerRecipe& recipe, double exact) {
  LayerFoldSpec spec{.selection = recipe.selection,
                     .lines = recipe.lines,
                     .predictor_bits = recipe.predictor_bits,
                     .fold_format = recipe.fold_format};
  spec.cuts_inputs = recipe.cuts_inputs();
  const double neurons = double(blueprint.neurons), inputs = recipe.inputs * double(blueprint.hidden);
  spec.neurons = std::llround(exact * neurons);
  const FfnBytes bytes = ffn_bytes(spec, recipe.formats, blueprint.gated, blueprint.hidden, blueprint.neurons);
  return (double(bytes.fixed) + exact * neurons * double(bytes.per_neuron) + inputs * double(bytes.per_input)) /
         double(bytes.dense);
}

double exact_for(const Blueprint& blueprint, const LayerRecipe& recipe, double reduction) {
  const double least = read_share(blueprint, recipe, 0);
  return std::min(1.0, (1 - reduction - least) / (read_share(blueprint, recipe, 1) - least));
}

}  // namespace pleat
