#pragma once
// The recipe with the least loss under a budget of bytes: each layer's options measured alone, one chosen for each
// (method.md section 6).
#include <filesystem>
#include <functional>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "core/fold/layer_builder.h"
#include "core/fold/option_meter.h"
#include "core/fold/report.h"

namespace pleat {

// What a budget counts: bytes read in a step at kReportBatches[batch], or stored.
struct ByteCount {
  size_t batch = 0;
  bool stored = false;
  double of(const LayerReport& report) const { return stored ? report.stored : report.read[batch]; }
};

// A recipe for the whole model.
struct FoundRecipe {
  std::vector<LayerRecipe> layers;  // empty: nothing fits the budget
  double predicted = 0;             // sum of the layers' KL, each changed alone, nats a token
  double bytes = 0;                 // as counted
};

class RecipeSearch {
 public:
  explicit RecipeSearch(const Blueprint& blueprint);

  // Tries every option of the next layer.
  void measure_layer(LayerBuilder& builder, OptionMeter& meter, const std::function<void(double)>& done);

  // What was measured, to search under other budgets without measuring again. Error(invalid) naming the file.
  nlohmann::ordered_json to_json() const;
  static RecipeSearch read(const std::filesystem::path& file, const Blueprint& blueprint);

  // plain_only: formats alone, nothing folded.
  FoundRecipe best(double budget, ByteCount count, bool plain_only) const;
  // A share of dense bf16's bytes that no recipe is below, known without measuring.
  double least_share(const Blueprint& blueprint) const;
  // The smallest number of bytes that any recipe has.
  double smallest(ByteCount count) const;

 private:
  struct Option {
    LayerRecipe recipe;
    LayerReport report;
    double kl = 0;
  };
  bool gated_;
  double dense_;  // bytes of all FFNs in bf16
  std::vector<LayerRecipe> options_;
  std::vector<std::vector<Option>> layers_;
};

}  // namespace pleat
