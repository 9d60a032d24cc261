#include "core/fold/ffn_tensors.h"

#include <algorithm>
#include <vector>

#include "kernels/check.h"

namespace pleat {
namespace {

// The part as [outputs, inputs].
Table read_weight(const Checkpoint& checkpoint, const WeightSource& source, int64_t outputs, int64_t inputs) {
  const std::vector<float> values = checkpoint.read_f32(source.weight);
  const int64_t total = int64_t(values.size()) / inputs;
  const int64_t begin = source.output_begin;
  PLEAT_REQUIRE(total * inputs == int64_t(values.size()) && begin + outputs <= total, "tensor '", source.weight,
                "' holds ", values.size(), " numbers, too few for ", outputs, " outputs of ", inputs, " inputs");
  if (source.input_major) {
    return transposed({values.data() + begin, inputs, outputs, total});
  }
  Table out(outputs, inputs);
  std::copy_n(values.data() + begin * inputs, out.data.size(), out.data.data());
  return out;
}

std::vector<float> read_bias(const Checkpoint& checkpoint, const WeightSource& source, int64_t outputs) {
  if (source.bias.empty()) return std::vector<float>(size_t(outputs));
  const std::vector<float> values = checkpoint.read_f32(source.bias);
  PLEAT_REQUIRE(source.output_begin + outputs <= int64_t(values.size()), "tensor '", source.bias, "' holds ",
                values.size(), " numbers, too few for ", outputs, " outputs");
  return {values.begin() + source.output_begin, values.begin() + source.output_begin + outputs};
}

}  // namespace

FfnTensors reordered(const FfnTensors& ffn, std::span<const int32_t> order) {
  const int64_t count = int64_t(order.size()), d = ffn.hidden();
  FfnTensors out;
  out.down_bias = ffn.down_bias;
  out.up = Table(count, d), out.down = Table(count, d), out.gate = Table(ffn.gated() ? count : 0, d);
  for (int64_t place = 0; place < count; ++place) {
    const int64_t old = order[size_t(place)];
    std::copy_n(ffn.up[old], d, out.up[place]);
    std::copy_n(ffn.down[old], d, out.down[place]);
    out.up_bias.push_back(ffn.up_bias[size_t(old)]);
    if (!ffn.gated()) continue;
    std::copy_n(ffn.gate[old], d, out.gate[place]);
    out.gate_bias.push_back(ffn.gate_bias[size_t(old)]);
  }
  return out;
}

FfnTensors read_ffn(const Checkpoint& checkpoint, const Blueprint& blueprint, int layer) {
  return with_context(concat("layer ", layer), [&] {
    const WeightSource up = blueprint.source(Part::ffn_up, layer), down = blueprint.source(Part::ffn_down, layer);
    FfnTensors out;
    if (blueprint.gated) {
      const WeightSource gate = blueprint.source(Part::ffn_gate, layer);
      out.gate = read_weight(checkpoint, gate, blueprint.neurons, blueprint.hidden);
      out.gate_bias = read_bias(checkpoint, gate, blueprint.neurons);
    }
    out.up = read_weight(checkpoint, up, blueprint.neurons, blueprint.hidden);
    out.up_bias = read_bias(checkpoint, up, blueprint.neurons);
    out.down = transposed(read_weight(checkpoint, down, blueprint.hidden, blueprint.neurons).view());
    out.down_bias = read_bias(checkpoint, down, blueprint.hidden);
    return out;
  });
}

}  // namespace pleat
