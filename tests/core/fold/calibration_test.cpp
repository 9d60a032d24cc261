// The moments of neurons are those of the layer asked for.
#include "core/fold/calibration.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/core/engine/run.h"

namespace pleat {
namespace {

// Sums a a^T over the activations of one layer, in plain loops.
class ActivationMoments : public StageObserver {
 public:
  ActivationMoments(int layer, int64_t neurons) : sums(size_t(neurons * neurons)), layer_(layer) {}
  void stage(const char* name, int layer, MatrixView<const float> value) override {
    if (layer != layer_ || std::string(name) != "gelu") return;
    ++steps;
    for (int64_t row = 0; row < value.rows; ++row)
      for (int64_t n = 0; n < value.cols; ++n)
        for (int64_t m = 0; m < value.cols; ++m)
          sums[size_t(n * value.cols + m)] += double(value[row][n]) * value[row][m];
  }
  std::vector<double> sums;
  int steps = 0;

 private:
  int layer_;
};

// |a - b| / |b|
double relative_distance(const std::vector<double>& a, const std::vector<double>& b) {
  double squared = 0, size = 0;
  for (size_t i = 0; i < b.size(); ++i) squared += (a[i] - b[i]) * (a[i] - b[i]), size += b[i] * b[i];
  return std::sqrt(squared / size);
}

TEST(Calibration, MomentsOfNeuronsAreThoseOfTheirLayer) {
  for (const char* family : {"gpt2", "llama-3.1"}) {
    DenseModel model(test::fixture(std::string("families/") + family), WeightFormat::bf16, 1, true);
    std::vector<Window> windows(2);
    for (int i = 0; i < 40; ++i) windows[size_t(i % 2)].push_back(2 + i * 37 % 200);
    Calibration calibration(model, windows, {});
    std::vector<std::vector<double>> expected;
    for (int layer = 0; layer < 2; ++layer) {
      ActivationMoments moments(layer, model.blueprint().neurons);
      model.set_observer(&moments);
      for (const Window& window : windows) model.run(window, nullptr, false);
      model.set_observer(nullptr);
      ASSERT_EQ(moments.steps, 2) << family;
      expected.push_back(moments.sums);
    }
    for (const int layer : {0, 1}) {
      const std::vector<double> found = calibration.moments(layer).neurons;
      ASSERT_EQ(found.size(), expected[0].size());
      EXPECT_LT(relative_distance(found, expected[size_t(layer)]), 1e-5) << family << ", layer " << layer;
      EXPECT_GT(relative_distance(found, expected[size_t(1 - layer)]), 1e-2) << family << ", layer " << layer;
    }
  }
}

}  // namespace
}  // namespace pleat
