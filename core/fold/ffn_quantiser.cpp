#include "core/fold/ffn_quantiser.h"

#include "core/fold/gptq_grid.h"
#include "core/fold/input_moments.h"
#include "kernels/check.h"

namespace pleat {
namespace {

// At 2 bits the order of activations costs more than it gains.
bool by_activation(WeightFormat format) { return format != WeightFormat::int2; }

std::vector<int32_t> extremes(const std::vector<float>& largest) {
  return largest.empty() ? std::vector<int32_t>() : extreme_inputs(largest);
}

}  // namespace

QuantisedFfn quantise_ffn(Context& ctx, const FfnTensors& ffn, const FfnMoments& moments, const FfnFormats& formats,
                          bool by_neuron) {
  QuantisedFfn out{formats, by_neuron, {}, {}, {}, {}};
  const auto inputs = [&](const Table& w, WeightFormat format, LowBitRows& rows) {
    if (pleat::is_low_bit(format))
      rows =
          gptq(ctx, w.view(), moments.inputs, bits_of(format), by_activation(format), extremes(moments.largest_inputs));
  };
  if (ffn.gated()) inputs(ffn.gate, formats.gate, out.gate);
  inputs(ffn.up, formats.up, out.up);
  if (is_low_bit(formats.down)) {
    const auto quantise = [&](MatrixView<const float> w, auto& gptq_of) {
      return gptq_of(ctx, w, moments.neurons, bits_of(formats.down), by_activation(formats.down),
                     extremes(moments.largest_neurons));
    };
    out.down =
        by_neuron ? quantise(ffn.down.view(), gptq_by_neuron) : quantise(transposed(ffn.down.view()).view(), gptq);
  }
  out.restore_values(ffn);
  return out;
}

void QuantisedFfn::restore_values(const FfnTensors& ffn) {
  if (values.up.rows > 0) return;
  values = ffn;
  if (gate.rows > 0) values.gate = gate.values();
  if (up.rows > 0) values.up = up.values();
  if (down.rows > 0) values.down = by_neuron ? down.values() : transposed(down.values().view());
}

QuantisedFfn reordered(const QuantisedFfn& ffn, std::span<const int32_t> order) {
  PLEAT_ASSERT(ffn.by_neuron || ffn.down.rows == 0);
  return {ffn.formats,
          ffn.by_neuron,
          reordered(ffn.gate, order),
          reordered(ffn.up, order),
          reordered(ffn.down, order),
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
