#pragma once
// From statistics to one layer's fold.
#include <span>

#include "core/fold/budget.h"
#include "core/fold/layer_fold.h"

namespace pleat {

// Candidate ranges of every neuron over the sample rows [rows, d]; layer_weight: what a squared error of this layer's
// output costs.
LayerRanges fit_layer_ranges(Context& ctx, const FfnTensors& ffn, const LowBitRows& predictor, Activation activation,
                             const Table& sample, double layer_weight);

// The layer folded with the chosen ranges; C carries the correction fitted on the sample.
LayerFold build_fold(Context& ctx, const FfnTensors& ffn, const LayerRanges& ranges, std::span<const uint8_t> choice,
                     const LowBitRows& predictor, Activation activation, const Table& sample, const FoldForm& form);

}  // namespace pleat
