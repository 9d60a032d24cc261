#pragma once
// Selection static (method.md section 5): the neurons that a ridge regression of the layer's input explains worst stay,
// for every token; the regression stands for all the others, which leave the checkpoint.
#include <cstdint>
#include <vector>

#include "core/fold/ffn_tensors.h"
#include "kernels/activation.h"

namespace pleat {

// `count` of the neurons, ascending: `always`, then those with the largest squared error of the regression times
// |W_down[n]|^2; without lines, where nothing stands for the others, those with the largest energy of the activation.
std::vector<int32_t> hot_neurons(Context& ctx, const FfnTensors& ffn, Activation activation, const Table& sample,
                                 int64_t count, bool lines, const std::vector<int32_t>& always);

}  // namespace pleat
