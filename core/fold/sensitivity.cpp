#include <cmath>
#include <random>

#include "core/fold/quality.h"

namespace pleat {
namespace {

constexpr double kNoise = 0.2;  // of the output's root mean square: 4% of its energy

class NoiseInOneLayer : public FfnHook {
 public:
  explicit NoiseInOneLayer(int layer) : layer_(layer), random_(uint64_t(layer) + 1) {}

  void ffn(int layer, const StepPlan& plan, MatrixView<const float>, MatrixView<float> y) override {
    if (layer != layer_) return;
    double energy = 0;
    int64_t rows = 0;
    for (int64_t row = 0; row < y.rows; ++row) {
      if (plan.rows[size_t(row)].position == 0) continue;
      for (int64_t i = 0; i < y.cols; ++i) energy += double(y[row][i]) * y[row][i];
      ++rows;
    }
    const double deviation = kNoise * std::sqrt(energy / double(std::max<int64_t>(rows, 1) * y.cols));
    std::normal_distribution<double> noise(0, 1);
    for (int64_t row = 0; row < y.rows; ++row) {
      if (plan.rows[size_t(row)].position == 0) continue;
      for (int64_t i = 0; i < y.cols; ++i) {
        const double change = deviation * noise(random_);
        y[row][i] += float(change);
        squared_ += change * change;
      }
      ++rows_;
    }
  }
  double squared_error() const { return squared_ / double(std::max<int64_t>(rows_, 1)); }  // of a token

 private:
  int layer_;
  std::mt19937_64 random_;
  double squared_ = 0;
  int64_t rows_ = 0;
};

}  // namespace

std::vector<double> measure_sensitivity(DenseModel& model, std::span<const Window> windows,
                                        const std::function<void(double)>& done) {
  const int layers = model.blueprint().layers;
  std::vector<NoiseInOneLayer> noises;
  noises.reserve(size_t(layers));
  for (int layer = 0; layer < layers; ++layer) noises.emplace_back(layer);
  std::vector<FfnHook*> hooks;
  hooks.reserve(noises.size());
  for (NoiseInOneLayer& noise : noises) hooks.push_back(&noise);
  const QualityComparison comparison = compare_with_dense(model, windows, hooks, 1, done);
  std::vector<double> out;
  for (size_t l = 0; l < noises.size(); ++l) {
    out.push_back(std::max(comparison.variants[l].kl, 1e-12) / std::max(noises[l].squared_error(), 1e-30));
  }
  return out;
}

}  // namespace pleat
