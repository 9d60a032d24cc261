#pragma once
// A matrix in any of the low-bit formats, as a checkpoint holds it.
#include <string>
#include <variant>
#include <vector>

#include "core/fold/checkpoint_copy.h"
#include "core/fold/gptq.h"
#include "core/fold/planes.h"
#include "kernels/matmul.h"

namespace pleat {

using QuantisedWeights = std::variant<LowBitRows, PlaneRows>;

// GPTQ in the order of activations, or in the columns' own: at 2 bits that order costs more than it gains.
bool takes_columns_by_activation(WeightFormat format);

// w [outputs, inputs] by GPTQ in the order of activations, or without compensation where second_moment is empty; int2
// in the columns' own order. scales: of planes.
QuantisedWeights quantise_weights(Context& ctx, MatrixView<const float> w, const std::vector<double>& second_moment,
                                  WeightFormat format, PlaneScales scales, std::vector<int32_t> protected_inputs);

Table dequantised(const QuantisedWeights& weights);  // [outputs, inputs]
int64_t bytes_of(const QuantisedWeights& weights);
int64_t protected_count(const QuantisedWeights& weights);  // of inputs that are held in bf16
// The tensors that stand for tensor `name` (core/model/quantised_tensors.h); their data stays in `weights`.
void append_tensors(const std::string& name, const QuantisedWeights& weights, std::vector<NewTensor>& tensors);
void append_tensors(const std::string& name, const LowBitRows& rows, std::vector<NewTensor>& tensors);
void append_tensors(const std::string& name, const PlaneRows& rows, std::vector<NewTensor>& tensors);

// The squared error of outputs on the text whose second moments these are, against their energy; of the weights where
// second_moment is empty.
struct OutputError {
  double error = 0, energy = 0;
  void add(Context& ctx, const Table& w, const QuantisedWeights& weights, const std::vector<double>& second_moment);
  double relative() const { return energy == 0 ? 0 : error / energy; }
};

}  // namespace pleat
