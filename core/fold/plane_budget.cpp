#include "core/fold/plane_budget.h"

#include <algorithm>
#include <map>

#include "core/fold/knapsack.h"
#include "core/fold/quality.h"
#include "kernels/check.h"

namespace pleat {
namespace {

// Sums the FFN outputs' squares off position 0.
class OutputEnergy : public FfnHook {
 public:
  explicit OutputEnergy(int layers) : sums_(size_t(layers)), rows_(size_t(layers)) {}
  void ffn(int layer, const StepPlan& plan, MatrixView<const float>, MatrixView<float> y) override {
    for (int64_t row = 0; row < y.rows; ++row) {
      if (plan.rows[size_t(row)].position == 0) continue;
      for (int64_t i = 0; i < y.cols; ++i) sums_[size_t(layer)] += double(y[row][i]) * y[row][i];
      ++rows_[size_t(layer)];
    }
  }
  double of(size_t layer) const { return sums_[layer] / double(std::max<int64_t>(rows_[layer], 1)); }

 private:
  std::vector<double> sums_;
  std::vector<int64_t> rows_;
};

}  // namespace

std::vector<double> plane_sensitivity(DenseModel& model, std::span<const Window> windows,
                                      const std::function<void(double)>& done) {
  std::vector<double> out = measure_sensitivity(model, windows, done);  // for a unit of squared error
  OutputEnergy energy(model.blueprint().layers);
  for (const Window& window : windows) model.run(window, &energy, false);
  for (size_t layer = 0; layer < out.size(); ++layer) out[layer] *= energy.of(layer);
  return out;
}

std::vector<PlaneChoice> choose_planes(const std::vector<PlaneCandidates>& candidates,
                                       const std::vector<double>& sensitivity, double share) {
  std::vector<PlaneChoice> out;
  std::vector<std::vector<Priced>> items;
  std::map<std::pair<int, bool>, size_t> places;
  double whole = 0;
  for (const PlaneCandidates& candidate : candidates) {
    const auto [place, added] = places.try_emplace({candidate.layer, candidate.down}, items.size());
    if (added) {
      items.emplace_back(size_t(kPlaneChoices));
      out.push_back({candidate.layer, candidate.down, 0, 0});
    }
    for (size_t i = 0; i < kPlaneChoices; ++i) {
      Priced& option = items[place->second][i];
      option.bytes += double(bytes_of(candidate.weights[i]));
      option.cost += sensitivity[size_t(candidate.layer)] * candidate.errors[i].relative();
    }
    whole += double(candidate.bytes_bf16);
  }
  const std::vector<size_t> chosen = choose_options(items, share * whole);
  PLEAT_REQUIRE(!chosen.empty(), "a budget of ", 100 * share, "% of the FFN's bf16 bytes is less than ", kFewestPlanes,
                " planes take");
  for (size_t i = 0; i < out.size(); ++i) {
    out[i].planes = kFewestPlanes + int(chosen[i]);
    out[i].kl = items[i][chosen[i]].cost;
  }
  return out;
}

}  // namespace pleat
