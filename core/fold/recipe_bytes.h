#pragma once
// What a recipe reads at batch 1, before any layer is made after it, and what that is a share of.
#include "core/fold/layer_recipe.h"
#include "core/model/blueprint.h"

namespace pleat {

// Of all layers' FFN matrices in bf16.
double dense_ffn_bytes(const Blueprint& blueprint);

// Share of dense bf16's FFN bytes read for a token with this share of exact neurons: linear in it.
double read_share(const Blueprint& blueprint, const LayerRecipe& recipe, double exact);

// The exact share with which `reduction` of the bytes are no longer read, at most 1; 0 or less: out of reach.
double exact_for(const Blueprint& blueprint, const LayerRecipe& recipe, double reduction);

}  // namespace pleat
