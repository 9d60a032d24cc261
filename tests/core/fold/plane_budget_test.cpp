// Who gets more planes.
#include "core/fold/plane_budget.h"

#include <gtest/gtest.h>

#include "core/fold/quality.h"
#include "tests/core/engine/run.h"

namespace pleat {
namespace {

// A tensor of a layer whose errors fall with each plane, as all such tensors' do.
PlaneCandidates candidates_of(int layer, double error) {
  PlaneCandidates out;
  out.layer = layer;
  out.bytes_bf16 = 2 * 128 * 128;
  for (size_t i = 0; i < kPlaneChoices; ++i) {
    out.weights[i] = PlaneRows(kFewestPlanes + int(i), PlaneScales::column, 128, 128);
    out.errors[i] = {error, 1};
    error /= 4;
  }
  return out;
}

std::vector<int> planes_chosen(const std::vector<double>& errors, const std::vector<double>& sensitivity) {
  std::vector<PlaneCandidates> candidates;
  for (size_t layer = 0; layer < errors.size(); ++layer) candidates.push_back(candidates_of(int(layer), errors[layer]));
  // Room for 3 planes each, and so for 2 and 4.
  const double share = 1.01 * double(bytes_of(candidates[0].weights[1])) / double(candidates[0].bytes_bf16);
  std::vector<int> out;
  for (const PlaneChoice& choice : choose_planes(candidates, sensitivity, share)) out.push_back(choice.planes);
  return out;
}

TEST(ChoosePlanes, TheLayerWhoseErrorsCostMoreGetsMore) {
  EXPECT_EQ(planes_chosen({.1, .1}, {1, 1}), (std::vector<int>{3, 3}));
  EXPECT_EQ(planes_chosen({.1, .1}, {1, 100}), (std::vector<int>{2, 4}));
  EXPECT_EQ(planes_chosen({.1, .1}, {100, 1}), (std::vector<int>{4, 2}));
  EXPECT_EQ(planes_chosen({.1, .001}, {1, 1}), (std::vector<int>{4, 2}));
  EXPECT_EQ(planes_chosen({.1, .001}, {1, 10000}), (std::vector<int>{2, 4}));
}

// Sums the squares of the FFN outputs off position 0.
class SquaredOutputs : public FfnHook {
 public:
  void ffn(int layer, const StepPlan& plan, MatrixView<const float>, MatrixView<float> y) override {
    for (int64_t row = 0; row < y.rows; ++row) {
      if (plan.rows[size_t(row)].position == 0) continue;
      for (int64_t i = 0; i < y.cols; ++i) sums[size_t(layer)] += double(y[row][i]) * y[row][i];
      ++rows[size_t(layer)];
    }
  }
  std::vector<double> sums{0, 0}, rows{0, 0};
};

TEST(PlaneSensitivity, IsForAnErrorAsLargeAsTheLayersOutput) {
  DenseModel model(test::fixture("families/gpt2"), WeightFormat::bf16, 1, true);
  std::vector<Window> windows(2);
  for (int i = 0; i < 80; ++i) windows[size_t(i % 2)].push_back(2 + i * 37 % 200);
  SquaredOutputs outputs;
  for (const Window& window : windows) model.run(window, &outputs, false);
  const std::vector<double> squared = measure_sensitivity(model, windows),
                            relative = plane_sensitivity(model, windows, {});
  ASSERT_EQ(relative.size(), 2u);
  for (size_t layer = 0; layer < 2; ++layer) {
    const double energy = outputs.sums[layer] / outputs.rows[layer];
    EXPECT_NEAR(relative[layer], squared[layer] * energy, 1e-3 * relative[layer]) << layer;
  }
}

}  // namespace
}  // namespace pleat
