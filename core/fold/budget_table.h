#pragma once
// What a search's measurements give under every budget: formats alone, and with folds among the options.
#include <array>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "core/fold/recipe_search.h"

namespace pleat {

struct BudgetPoint {
  bool plain_fits = false, mixed_fits = false;
  double plain = 0, mixed = 0;  // predicted KL of the best recipe, nats a token
  int folded = 0;               // layers that the mixed one folds
};

struct BudgetRow {
  double budget = 0;                  // share of dense bf16's FFN bytes
  std::array<BudgetPoint, 4> counts;  // read at kReportBatches, and stored
};

// Budgets of 18, 20 ... 30%.   dense_bytes: of the model's FFNs in bf16.
std::vector<BudgetRow> budget_table(const RecipeSearch& search, double dense_bytes);

std::string to_text(const std::vector<BudgetRow>& table);
nlohmann::ordered_json to_json(const std::vector<BudgetRow>& table);

}  // namespace pleat
