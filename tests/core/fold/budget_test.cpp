#include "core/fold/budget.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace pleat {
namespace {

// Neurons whose error falls with the share outside at very different rates.
std::vector<LayerRanges> uneven_layers() {
  std::mt19937_64 random(3);
  std::uniform_real_distribution<double> uniform(0, 1);
  std::vector<LayerRanges> layers(3);
  for (LayerRanges& layer : layers) {
    for (int n = 0; n < 400; ++n) {
      const double scale = std::exp(4 * uniform(random)), rate = 3 + 20 * uniform(random);
      auto& ranges = layer.neurons.emplace_back();
      for (size_t i = 0; i < ranges.size(); ++i) {
        ranges[i].outside = float(kOutsideShares[i]);
        ranges[i].error = float(scale * std::exp(-rate * kOutsideShares[i]));
      }
      layer.weight.push_back(0.1 + uniform(random));
    }
  }
  return layers;
}

TEST(Budget, MeetsTheMeanShareFromBelow) {
  const auto layers = uneven_layers();
  for (const double outside : {0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.8}) {
    const double met = mean_outside(layers, choose_ranges(layers, outside));
    EXPECT_LE(met, outside);
    EXPECT_GE(met, outside - 0.3 / 1200 - 1e-9);  // the widest gap of the grid, of one neuron
  }
}

TEST(Budget, MoreExactNeuronsNeverCostError) {
  const auto layers = uneven_layers();
  double last = INFINITY;
  for (const double outside : {0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9}) {
    const double error = total_error(layers, choose_ranges(layers, outside));
    EXPECT_LE(error, last);
    last = error;
  }
}

TEST(Budget, BeatsTheSameShareForEveryNeuron) {
  const auto layers = uneven_layers();
  for (const size_t i : {3, 4, 6}) {
    RangeChoice equal;
    for (const LayerRanges& layer : layers) equal.emplace_back(layer.neurons.size(), uint8_t(i));
    EXPECT_LT(total_error(layers, choose_ranges(layers, kOutsideShares[i])), 0.9 * total_error(layers, equal));
  }
}

TEST(Budget, GivesAHeavierLayerMoreExactNeurons) {
  auto layers = uneven_layers();
  for (double& weight : layers[1].weight) weight *= 20;
  const RangeChoice choice = choose_ranges(layers, 0.1);
  EXPECT_GT(mean_outside({layers[1]}, {choice[1]}), 2 * mean_outside({layers[0]}, {choice[0]}));
}

}  // namespace
}  // namespace pleat
