#include "core/fold/ffn_quantiser.h"

#include "core/fold/gptq_columns.h"
#include "core/fold/input_moments.h"
#include "kernels/check.h"

namespace pleat {
namespace {

std::vector<int32_t> extremes(const std::vector<float>& largest) {
  return largest.empty() ? std::vector<int32_t>() : extreme_inputs(largest);
}

}  // namespace

QuantisedFfn quantise_ffn(Context& ctx, const FfnTensors& ffn, const FfnMoments& moments, const FfnFormats& formats,
                          bool by_neuron, bool by_input) {
  QuantisedFfn out{formats, by_neuron, by_input, {}, {}, {}, {}};
  const auto quantise = [&](MatrixView<const float> w, const std::vector<double>& moment,
                            const std::vector<float>& largest, WeightFormat format) -> QuantisedWeights {
    if (!is_low_bit(format)) return QuantisedWeights();
    if (by_neuron && has_planes(format))
      return gptq(ctx, w, moment, bits_of(format), takes_columns_by_activation(format), extremes(largest), true);
    return quantise_weights(ctx, w, moment, format, PlaneScales::column, extremes(largest));
  };
  // A matrix whose rows are gathered and added: w [inputs, outputs].
  const auto quantise_rows = [&](MatrixView<const float> w, const std::vector<double>& moment,
                                 const std::vector<float>& largest, WeightFormat format) -> QuantisedWeights {
    if (!is_low_bit(format)) return QuantisedWeights();
    return gptq_by_neuron(ctx, w, moment, bits_of(format), takes_columns_by_activation(format), extremes(largest),
                          has_planes(format));
  };
  const auto quantise_up = [&](const Table& w, WeightFormat format) {
    return by_input ? quantise_rows(transposed(w.view()).view(), moments.inputs, moments.largest_inputs, format)
                    : quantise(w.view(), moments.inputs, moments.largest_inputs, format);
  };
  if (ffn.gated()) out.gate = quantise_up(ffn.gate, formats.gate);
  out.up = quantise_up(ffn.up, formats.up);
  if (by_neuron)
    out.down = quantise_rows(ffn.down.view(), moments.neurons, moments.largest_neurons, formats.down);
  else
    out.down = quantise(transposed(ffn.down.view()).view(), moments.neurons, moments.largest_neurons, formats.down);
  out.restore_values(ffn);
  return out;
}

void QuantisedFfn::restore_values(const FfnTensors& ffn) {
  if (values.up.rows > 0) return;
  values = ffn;
  const auto value_of = [](const QuantisedWeights& weights, bool turned) {
    return turned ? transposed(dequantised(weights).view()) : dequantised(weights);
  };
  if (ffn.gated() && pleat::is_low_bit(formats.gate)) values.gate = value_of(gate, by_input);
  if (pleat::is_low_bit(formats.up)) values.up = value_of(up, by_input);
  if (pleat::is_low_bit(formats.down)) values.down = value_of(down, !by_neuron);
}

QuantisedFfn reordered(const QuantisedFfn& ffn, std::span<const int32_t> order) {
  PLEAT_ASSERT((ffn.by_neuron && !ffn.by_input) || !ffn.is_low_bit());
  const auto rows = [&](const QuantisedWeights& weights) { return reordered(std::get<LowBitRows>(weights), order); };
  return {ffn.formats,
          ffn.by_neuron,
          ffn.by_input,
          rows(ffn.gate),
          rows(ffn.up),
          rows(ffn.down),
          reordered(ffn.values, order)};
}

FfnMoments some_neurons(const FfnMoments& moments, const std::vector<int32_t>& neurons) {
  FfnMoments out = moments;
  if (!moments.neurons.empty()) out.neurons = reordered(moments.neurons, neurons);
  out.largest_neurons.clear();
  for (const int32_t n : neurons)
    if (!moments.largest_neurons.empty()) out.largest_neurons.push_back(moments.largest_neurons[size_t(n)]);
  return out;
}

}  // namespace pleat
