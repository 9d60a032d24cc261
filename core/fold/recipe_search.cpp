#include "core/fold/recipe_search.h"

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "core/checkpoint/file.h"
#include "core/checkpoint/json_file.h"
#include "core/fold/knapsack.h"
#include "core/fold/recipe_bytes.h"
#include "kernels/check.h"

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
  for (const auto& [gate_up, down] : std::vector<std::pair<WeightFormat, WeightFormat>>{{int8, int8},
                                                                                        {int6, int6},
                                                                                        {int5, int6},
                                                                                        {int5, int5},
                                                                                        {int4, int5},
                                                                                        {int4, int4},
                                                                                        {int3, int4},
                                                                                        {int3, int3},
                                                                                        {int2, int4},
                                                                                        {int2, int3},
                                                                                        {int2, int2}})
    out.push_back(plain(gate_up, down));
  return out;
}

std::vector<LayerRecipe> fold_options(bool gated) {
  using enum WeightFormat;
  std::vector<LayerRecipe> out;
  if (gated) {
    for (const double exact : {.2, .3, .5}) out.push_back(folded(SelectionKind::gate, exact, int4, int4));
    for (const double exact : {.3, .5}) out.push_back(folded(SelectionKind::gate, exact, int3, int4));
  } else {
    for (const double exact : {.05, .1, .15, .2, .3}) out.push_back(folded(SelectionKind::range, exact, int4, int4));
    for (const double exact : {.1, .2}) out.push_back(folded(SelectionKind::range, exact, int3, int4));
  }
  out.push_back(folded(SelectionKind::hot, .25, int4, int4));
  return out;
}

// What reads the same in every step need not be measured.
LayerReport bytes_of(LayerBuilder& builder, const BuiltLayer& built) {
  if (gathers(built.fold.spec.selection)) return builder.measure(built).report;
  const FfnBytes bytes = built.bytes();
  LayerReport out;
  out.read.fill(double(bytes.fixed));
  out.stored = double(bytes.stored);
  return out;
}

}  // namespace

RecipeSearch::RecipeSearch(const Blueprint& blueprint)
    : gated_(blueprint.gated), dense_(dense_ffn_bytes(blueprint)), options_(plain_options()) {
  const std::vector<LayerRecipe> folds = fold_options(gated_);
  options_.insert(options_.end(), folds.begin(), folds.end());
  for (LayerRecipe& recipe : options_)
    if (!gated_) recipe.formats.gate = FfnFormats().gate;
}

void RecipeSearch::measure_layer(LayerBuilder& builder, OptionMeter& meter, const std::function<void(double)>& done) {
  const int layer = int(layers_.size());
  std::vector<Option>& tried = layers_.emplace_back();
  for (const LayerRecipe& recipe : options_) {
    const BuiltLayer built = builder.build(recipe);
    tried.push_back({recipe, bytes_of(builder, built), meter.kl(layer, builder.layer(built))});
    done(double(tried.size()) / double(options_.size()));
  }
}

nlohmann::ordered_json RecipeSearch::to_json() const {
  using nlohmann::ordered_json;
  ordered_json layers = ordered_json::array();
  for (const std::vector<Option>& options : layers_) {
    ordered_json& layer = layers.emplace_back(ordered_json::array());
    for (const Option& option : options)
      layer.push_back({{"recipe", pleat::to_json(option.recipe, gated_)},
                       {"read", option.report.read},
                       {"stored", option.report.stored},
                       {"kl", option.kl}});
  }
  return {{"dense", dense_}, {"layers", layers}};
}

RecipeSearch RecipeSearch::read(const std::filesystem::path& file, const Blueprint& blueprint) {
  RecipeSearch out(blueprint);
  const std::string text = read_whole(file);
  parse_json(text, file.string());  // no deeper than may be read
  try {
    const auto content = nlohmann::ordered_json::parse(text);
    PLEAT_REQUIRE(content.contains("dense") || !content.contains("layers"), "the options '", file.string(),
                  "' are of an earlier version, which did not say of what model: measure them again");
    PLEAT_REQUIRE(content.at("dense") == dense_ffn_bytes(blueprint), "the options '", file.string(),
                  "' are of a model whose FFNs have ", content.at("dense").dump(), " bytes in bf16, not ",
                  dense_ffn_bytes(blueprint));
    for (const auto& layer : content.at("layers")) {
      std::vector<Option>& options = out.layers_.emplace_back();
      for (const auto& json : layer) {
        Option& option = options.emplace_back();
        option.recipe = layer_recipe_from(json.at("recipe"), blueprint.gated);
        json.at("read").get_to(option.report.read);
        json.at("stored").get_to(option.report.stored);
        json.at("kl").get_to(option.kl);
        for (const double value :
             {option.report.read[0], option.report.read[1], option.report.read[2], option.report.stored, option.kl})
          PLEAT_REQUIRE(std::isfinite(value) && value >= 0, "the options '", file.string(), "' have a count of ",
                        value);
      }
      PLEAT_REQUIRE(!options.empty(), "the options '", file.string(), "' have a layer without any");
    }
  } catch (const nlohmann::json::exception&) {
    PLEAT_REQUIRE(false, "the options '", file.string(), "' are not those that a fold under a budget wrote");
  }
  PLEAT_REQUIRE(int(out.layers_.size()) == blueprint.layers, "the options '", file.string(), "' are of ",
                out.layers_.size(), " layers, the model has ", blueprint.layers);
  return out;
}

FoundRecipe RecipeSearch::best(double budget, ByteCount count, bool plain_only) const {
  std::vector<std::vector<Priced>> priced;
  for (const std::vector<Option>& options : layers_) {
    priced.emplace_back();
    for (const Option& option : options) {
      const bool counts = !plain_only || option.recipe.selection == SelectionKind::all;
      priced.back().push_back({counts ? count.of(option.report) : INFINITY, option.kl});
    }
  }
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

double RecipeSearch::least_share(const Blueprint& blueprint) const {
  double least = INFINITY;
  for (const LayerRecipe& recipe : options_)
    least = std::min(least, read_share(blueprint, recipe, gathers(recipe.selection) ? 0 : recipe.exact));
  return least;
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
