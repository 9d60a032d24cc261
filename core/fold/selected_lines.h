#pragma once
// Folds whose selection does not depend on the lines (threshold, prompt, core): who is exact is found first, then each
// neuron's line is fitted on the tokens for which it is not.
#include "core/fold/layer_fold.h"

namespace pleat {

constexpr RowBlocks kSampleBlocks{128, 32};  // the sample as sequences, each with its prompt

// The threshold that `share` of the values' magnitudes are above.
float magnitude_above(const Table& values, double share);

// `begun`: its selection, and whether inputs are cut and where. `exact`: share of (token, neuron) above the threshold,
// or of a sequence's neurons.
LayerFold build_selected_fold(Context& ctx, const FfnTensors& ffn, LayerFold begun, double exact, Activation activation,
                              const Table& sample, const FoldForm& form);

}  // namespace pleat
