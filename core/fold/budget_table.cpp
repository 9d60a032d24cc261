#include "core/fold/budget_table.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "core/fold/format_text.h"

namespace pleat {
namespace {

BudgetPoint point_at(const RecipeSearch& search, double bytes, ByteCount count) {
  const FoundRecipe plain = search.best(bytes, count, true), mixed = search.best(bytes, count, false);
  const auto folds = [](const LayerRecipe& layer) { return layer.selection != SelectionKind::all; };
  return {!plain.layers.empty(), !mixed.layers.empty(), plain.predicted, mixed.predicted,
          int(std::count_if(mixed.layers.begin(), mixed.layers.end(), folds))};
}

std::string kl_text(bool fits, double kl) { return fits ? format_text("%.4f", kl) : "-"; }

const std::array<const char*, 4> kCounts = {"read, batch 1", "batch 4", "batch 16", "stored"};

}  // namespace

std::vector<BudgetRow> budget_table(const RecipeSearch& search, double dense_bytes) {
  std::vector<BudgetRow> out;
  for (int percent = 18; percent <= 30; percent += 2) {
    BudgetRow& row = out.emplace_back();
    row.budget = percent / 100.0;
    for (size_t i = 0; i < row.counts.size(); ++i)
      row.counts[i] = point_at(search, row.budget * dense_bytes, {i % kReportBatches.size(), i == 3});
  }
  return out;
}

std::string to_text(const std::vector<BudgetRow>& table) {
  std::string out = "predicted KL of the best mix, formats alone / with folds (layers folded)\nbudget";
  for (const char* count : kCounts) out += format_text("  %-20s", count);
  for (const BudgetRow& row : table) {
    out += format_text("\n%5.0f%%", 100 * row.budget);
    for (const BudgetPoint& point : row.counts) {
      const std::string text = kl_text(point.plain_fits, point.plain) + " / " + kl_text(point.mixed_fits, point.mixed) +
                               format_text(" (%d)", point.folded);
      out += format_text("  %-20s", text.c_str());
    }
  }
  return out + "\n";
}

nlohmann::ordered_json to_json(const std::vector<BudgetRow>& table) {
  using nlohmann::ordered_json;
  ordered_json out = ordered_json::array();
  for (const BudgetRow& row : table) {
    ordered_json& json = out.emplace_back(ordered_json{{"budget", row.budget}});
    for (size_t i = 0; i < kCounts.size(); ++i) {
      const BudgetPoint& point = row.counts[i];
      json[kCounts[i]] = {{"formats alone", point.plain_fits ? ordered_json(point.plain) : ordered_json()},
                          {"formats and folds", point.mixed_fits ? ordered_json(point.mixed) : ordered_json()},
                          {"folded_layers", point.folded}};
    }
  }
  return out;
}

}  // namespace pleat
