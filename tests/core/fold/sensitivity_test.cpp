// What an error in one layer costs.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "core/fold/quality.h"
#include "tests/core/engine/run.h"
#include "tests/core/rewritten_model.h"
#include "tests/temporary_folder.h"

namespace pleat {
namespace {

// Adds numbers of one deviation to a layer's outputs off position 0.
class NoisyLayer : public FfnHook {
 public:
  NoisyLayer(int layer, double deviation) : layer_(layer), deviation_(deviation) {}
  void ffn(int layer, const StepPlan& plan, MatrixView<const float>, MatrixView<float> y) override {
    std::normal_distribution<double> normal(0, deviation_);
    for (int64_t row = 0; row < y.rows && layer == layer_; ++row)
      for (int64_t i = 0; i < y.cols && plan.rows[size_t(row)].position > 0; ++i) y[row][i] += float(normal(random_));
  }

 private:
  int layer_;
  double deviation_;
  std::mt19937_64 random_{77};
};

std::vector<double> log_softmax(const float* logits, int64_t vocab) {
  double sum = 0;
  for (int64_t i = 0; i < vocab; ++i) sum += std::exp(double(logits[i]));
  std::vector<double> out;
  for (int64_t i = 0; i < vocab; ++i) out.push_back(logits[i] - std::log(sum));
  return out;
}

// Mean KL a token off position 0 for a unit of squared error in the layer's output.
double cost_of_noise(DenseModel& model, const std::vector<Window>& windows, int layer, double deviation) {
  double kl = 0, tokens = 0;
  NoisyLayer noise(layer, deviation);
  for (const Window& window : windows) {
    const MatrixView<const float> logits = model.run(window, nullptr, true);
    std::vector<std::vector<double>> dense;
    for (int64_t row = 0; row < logits.rows; ++row) dense.push_back(log_softmax(logits[row], logits.cols));
    const MatrixView<const float> changed = model.run(window, &noise, true);
    for (int64_t row = 1; row + 1 < changed.rows; ++row, ++tokens) {
      const std::vector<double> now = log_softmax(changed[row], changed.cols);
      for (size_t i = 0; i < now.size(); ++i) kl += std::exp(dense[size_t(row)][i]) * (dense[size_t(row)][i] - now[i]);
    }
  }
  return kl / tokens / (deviation * deviation * double(model.blueprint().hidden));
}

// The second layer's FFN sees the first one's output with 4 times its weights.
TEST(Sensitivity, IsHigherOfALayerWhoseErrorsTheNextOneMakesLarger) {
  const test::TemporaryFolder folder;
  test::rewrite_model(test::fixture("families/gpt2"), folder / "model",
                      [](const std::string& name, std::vector<float>& values) {
                        if (name == "transformer.h.1.mlp.c_fc.weight")
                          for (float& value : values) value *= 4;
                        return name;
                      });
  DenseModel model(folder / "model", WeightFormat::bf16, 1, true);
  std::vector<Window> windows(4);
  for (int i = 0; i < 240; ++i) windows[size_t(i % 4)].push_back(2 + i * i * 37 % 200);
  const std::vector<double> found = measure_sensitivity(model, windows);
  ASSERT_EQ(found.size(), 2u);
  std::vector<double> expected;
  for (const int layer : {0, 1}) expected.push_back(cost_of_noise(model, windows, layer, 0.1));
  for (size_t layer = 0; layer < 2; ++layer) {
    EXPECT_NEAR(found[layer], expected[layer], 0.1 * expected[layer]) << layer;
  }
  EXPECT_GT(found[0], 3 * found[1]);
}

}  // namespace
}  // namespace pleat
