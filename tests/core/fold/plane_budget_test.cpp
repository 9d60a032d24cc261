#include "core/fold/plane_budget.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace pleat {
namespace {

TEST(PlaneBudget, IsSpentAsWellAsTryingEveryChoiceWould) {
  std::mt19937 generator(1);
  for (int trial = 0; trial < 20; ++trial) {
    std::vector<std::array<PlaneOption, kPlaneChoices>> items(5);
    for (auto& item : items) {
      const double sensitivity = std::exp(double(generator() % 100) / 20);
      for (int i = 0; i < kPlaneChoices; ++i)
        item[size_t(i)] = {int64_t(1000 + generator() % 500) * (i + 2), sensitivity * std::pow(0.25, i)};
    }
    const int64_t budget = 16000 + int64_t(generator() % 8000);
    double least = INFINITY;
    for (int code = 0; code < 243; ++code) {
      int64_t bytes = 0;
      double cost = 0;
      for (int i = 0, rest = code; i < 5; ++i, rest /= 3) {
        bytes += items[size_t(i)][size_t(rest % 3)].bytes, cost += items[size_t(i)][size_t(rest % 3)].cost;
      }
      if (bytes <= budget - 5 * (budget / 4096)) least = std::min(least, cost);  // bytes are rounded up to steps
    }
    const std::vector<int> chosen = cheapest_within(items, budget);
    ASSERT_EQ(chosen.empty(), std::isinf(least));
    if (chosen.empty()) continue;
    int64_t bytes = 0;
    double cost = 0;
    for (size_t i = 0; i < 5; ++i) {
      bytes += items[i][size_t(chosen[i])].bytes, cost += items[i][size_t(chosen[i])].cost;
    }
    EXPECT_LE(bytes, budget);
    EXPECT_LE(cost, least * (1 + 1e-12));
  }
}

TEST(PlaneBudget, WithoutRoomForTheFewestPlanesThereIsNoChoice) {
  EXPECT_TRUE(cheapest_within({{{{100, 3}, {150, 2}, {200, 1}}}}, 99).empty());
  EXPECT_EQ(cheapest_within({{{{100, 3}, {150, 2}, {200, 1}}}}, 100), std::vector<int>{0});
}

}  // namespace
}  // namespace pleat
