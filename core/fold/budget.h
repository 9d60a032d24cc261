#pragma once
// One error budget over all layers and neurons (TARDIS step 2): the share of tokens each neuron is computed exactly
// for.
#include <cstdint>
#include <vector>

#include "core/fold/ranges.h"

namespace pleat {

// The candidate ranges of all neurons of a layer, and what a squared error of each neuron's activation costs.
struct LayerRanges {
  std::vector<std::array<NeuronRange, kOutsideShares.size()>> neurons;  // [h]
  std::vector<double> weight;                                           // [h] layer weight * |W2[n]|^2
};

// choice [layers][h]: index into kOutsideShares.
using RangeChoice = std::vector<std::vector<uint8_t>>;

// Minimises sum of weight * error over all neurons with at most this mean share outside (of neurons and tokens), by one
// price mu of a share: each neuron takes the range with the least weight * error + mu * outside. The mean share comes
// as near below `outside` as one neuron's next range.
RangeChoice choose_ranges(const std::vector<LayerRanges>& layers, double outside);

double mean_outside(const std::vector<LayerRanges>& layers, const RangeChoice& choice);
double total_error(const std::vector<LayerRanges>& layers, const RangeChoice& choice);

}  // namespace pleat
