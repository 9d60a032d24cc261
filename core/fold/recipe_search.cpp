#include "core/fold/recipe_search.h"

#include <algorithm>

#include "core/fold/knapsack.h"

namespace pleat {
namespace {

LayerRecipe plain(WeightFormat gate_up, WeightFormat down) {
  LayerRecipe out;
  out.formats = {gate_up, gate_up, down};
  return out;
}

LayerRecipe folded(SelectionKind selection, double exact, WeightFormat gate_up, WeightFormat down) {
  LayerRecipe out = plain(gate_up, down);
  out.selection = selection;
  out.exact = exact;
  return out;
}

// The down matrix is the sensitive one: never the smaller of the two, but at the bottom.
std::vector<LayerRecipe> plain_options() {
  using enum WeightFormat;
  std::vector<LayerRecipe> out;
  for (const auto& [gate_up, down] : std::vector<std::pair<WeightFormat, WeightFormat>>{
           {int8, int8}, {int6, int6}, {int5, int6}, {int5, int5}, {int4, int5}, {int4, int4}, {int3, int4},
           {int3, int3}, {int2, int4}, {int2, int3}, {int2, int2}})
    out.push_back(plain(gate_up, down));
  return out;
}

std::vector<LayerRecipe> fold_options(bool gated) {
  using enum WeightFormat;
  std::vector<LayerRecipe> out;
  if (gated) {
    for (const double exact : {.2, .3, .5}) out.push_back(folded(SelectionKind::gate, exact, int4, int4));
    for (const double exact : {.2, .3, .5}) out.push_back(folded(SelectionKind::gate, exact, int3, int4));
  } else {
    for (const double exact : {.02, .05, .1, .15, .2, .3})
      out.push_back(folded(SelectionKind::range, exact, int4, int4));
    for (const double exact : {.1, .2}) out.push_back(folded(SelectionKind::range, exact, int3, int4));
  }
  for (const double exact : {.1, .25, .5}) out.push_back(folded(SelectionKind::hot, exact, int4, int4));
  return out;
}

}  // namespace

RecipeSearch::RecipeSearch(bool gated) : options_(plain_options()) {
  const std::vector<LayerRecipe> folds = fold_options(gated);
  options_.insert(options_.end(), folds.begin(), folds.end());
}

void RecipeSearch::measure_layer(LayerBuilder& builder, OptionMeter& meter, const std::function<void(double)>& done) {
  const int layer = int(layers_.size());
  std::vector<Option>& tried = layers_.emplace_back();
  for (const LayerRecipe& recipe : options_) {
    const BuiltLayer built = builder.build(recipe);
    tried.push_back({recipe, builder.measure(built).report, meter.kl(layer, builder.layer(built))});
    done(double(tried.size()) / double(options_.size()));
  }
}

FoundRecipe RecipeSearch::best(double budget, ByteCount count, bool plain_only) const {
  std::vector<std::vector<Priced>> priced;
  for (const std::vector<Option>& options : layers_) {
    priced.emplace_back();
    for (const Option& option : options)
      if (!plain_only || option.recipe.selection == SelectionKind::all)
        priced.back().push_back({count.of(option.report), option.kl});
  }
  // The plain options come first, so an index means the same with and without the others.
  const std::vector<size_t> chosen = choose_options(priced, budget);
  FoundRecipe out;
  for (size_t layer = 0; layer < chosen.size(); ++layer) {
    const Option& option = layers_[layer][chosen[layer]];
    out.layers.push_back(option.recipe);
    out.predicted += option.kl;
    out.bytes += count.of(option.report);
  }
  return out;
}

double RecipeSearch::smallest(ByteCount count) const {
  double sum = 0;
  for (const std::vector<Option>& options : layers_) {
    double least = count.of(options[0].report);
    for (const Option& option : options) least = std::min(least, count.of(option.report));
    sum += least;
  }
  return sum;
}

}  // namespace pleat
