#include "core/fold/budget.h"

#include <cmath>

#include "kernels/check.h"

namespace pleat {
namespace {

RangeChoice at_price(const std::vector<LayerRanges>& layers, double price) {
  RangeChoice out;
  for (const LayerRanges& layer : layers) {
    std::vector<uint8_t>& choice = out.emplace_back(layer.neurons.size());
    for (size_t n = 0; n < layer.neurons.size(); ++n) {
      double best = INFINITY;
      for (size_t i = 0; i < kOutsideShares.size(); ++i) {
        const NeuronRange& range = layer.neurons[n][i];
        const double cost = layer.weight[n] * double(range.error) + price * double(range.outside);
        if (cost < best) best = cost, choice[n] = uint8_t(i);
      }
    }
  }
  return out;
}

}  // namespace

double mean_outside(const std::vector<LayerRanges>& layers, const RangeChoice& choice) {
  double sum = 0, count = 0;
  for (size_t l = 0; l < layers.size(); ++l) {
    for (size_t n = 0; n < layers[l].neurons.size(); ++n) sum += double(layers[l].neurons[n][choice[l][n]].outside);
    count += double(layers[l].neurons.size());
  }
  return sum / count;
}

double total_error(const std::vector<LayerRanges>& layers, const RangeChoice& choice) {
  double sum = 0;
  for (size_t l = 0; l < layers.size(); ++l) {
    for (size_t n = 0; n < layers[l].neurons.size(); ++n) {
      sum += layers[l].weight[n] * double(layers[l].neurons[n][choice[l][n]].error);
    }
  }
  return sum;
}

RangeChoice choose_ranges(const std::vector<LayerRanges>& layers, double outside) {
  double low = -60, high = 40;  // log2 of the price: at `high` nothing is worth computing exactly
  RangeChoice best = at_price(layers, std::exp2(high));
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    RangeChoice choice = at_price(layers, std::exp2(middle));
    if (mean_outside(layers, choice) > outside) {
      low = middle;
    } else {
      high = middle;
      best = std::move(choice);
    }
  }
  return best;
}

}  // namespace pleat
