// The FFN of one layer in the form its selection asks for (core/model/fold_spec.h).
#include "core/engine/weight_job.h"

namespace pleat {
namespace {

// One layer's loading: `neurons` of the `held` ones that the checkpoint has.
struct FfnJob {
  WeightJob& job;
  int layer;
  int64_t d, held;
  Range neurons;
  LayerWeights& weights;

  PackedMatrix input_matrix(Part part) const {
    PackedMatrix matrix(job.format_of(part, layer), d, neurons.size(), {0, d});
    job.pack(job.blueprint.source(part, layer), d, held, {0, d}, neurons, matrix);
    return matrix;
  }

  PackedMatrix down_matrix() const {
    PackedMatrix matrix(job.format_of(Part::ffn_down, layer), neurons.size(), d, weights.neuron_offsets);
    job.pack(job.blueprint.source(Part::ffn_down, layer), held, d, neurons, {0, d}, matrix);
    return matrix;
  }

  NeuronRows input_rows(Part part) const {
    NeuronRows rows(job.format_of(part, layer), neurons.size(), d);
    const WeightSource source = job.blueprint.source(part, layer);
    if (is_low_bit(rows.format()))
      job.loader.low_bit(source.weight, d, held, {0, d}, neurons, 0, rows);
    else
      job.loader.matrix(source, d, held, {0, d}, neurons, 0,
                        [&](int64_t k, int64_t n, const WeightBlock& block) { rows.pack(n, k, transposed(block)); });
    return rows;
  }

  // A part [total_inputs, total_outputs] whose inputs are rows.
  NeuronRows by_input(Part part, int64_t total_inputs, int64_t total_outputs, Range inputs, Range outputs) const {
    NeuronRows rows(job.format_of(part, layer), inputs.size(), outputs.size());
    if (inputs.size() == 0 || outputs.size() == 0) return rows;
    const WeightSource source = job.blueprint.source(part, layer);
    if (is_low_bit(rows.format()))
      job.loader.low_bit_by_input(source.weight, total_inputs, total_outputs, inputs, outputs, rows);
    else
      job.loader.matrix(source, total_inputs, total_outputs, inputs, outputs, 0,
                        [&](int64_t k, int64_t n, const WeightBlock& block) { rows.pack(k, n, block); });
    return rows;
  }
  NeuronRows down_rows() const { return by_input(Part::ffn_down, held, d, neurons, {0, d}); }
  NeuronRows cut_rows(Part part) const { return by_input(part, d, held, {0, d}, neurons); }

  ProtectedCounts protected_counts() const {
    const auto of = [&](Part part) { return job.loader.protected_count(job.blueprint.source(part, layer).weight); };
    return {job.blueprint.gated ? of(Part::ffn_gate) : 0, of(Part::ffn_up), of(Part::ffn_down)};
  }

  std::string name(const char* tensor) const { return FoldSpec::name(layer, tensor); }
  // Of this rank's neurons.
  Vector numbers(const char* tensor) const { return job.loader.vector(name(tensor), held, neurons); }

  // Zeros where the model has none.
  Vector neuron_bias(Part part) const {
    const std::string bias = job.blueprint.source(part, layer).bias;
    if (bias.empty()) return Vector(size_t(neurons.size()), 0.0f);
    return job.loader.vector(bias, held, neurons);
  }

  // A low-bit copy of this rank's neurons: `tensor`.codes, .scale and .minimum.
  LowBitMatrix predictor(const char* tensor) const {
    LowBitMatrix matrix(weights.spec.predictor_bits, neurons.size(), d);
    job.loader.low_bit(name(tensor), d, held, {0, d}, neurons, 0, matrix);
    return matrix;
  }

  PackedMatrix fold() const {
    const Range inputs = job.plan.fold_inputs(job.rank);
    const WeightFormat format = weights.spec.fold_format;
    PackedMatrix matrix(format, inputs.size(), d, job.plan.fold_offsets(job.rank));
    job.pack({name(is_low_bit(format) ? "fold" : "fold.weight"), "", true}, d, d, inputs, {0, d}, matrix);
    return matrix;
  }
};

// Gate and up, or W1, by input.
void load_by_input(const FfnJob& ffn) {
  if (ffn.job.blueprint.gated) ffn.weights.by_input.gate = ffn.cut_rows(Part::ffn_gate);
  ffn.weights.by_input.up = ffn.cut_rows(Part::ffn_up);
}

void load_dense(const FfnJob& ffn, bool by_input) {
  if (by_input) {
    load_by_input(ffn);
  } else {
    if (ffn.job.blueprint.gated) ffn.weights.dense.gate = ffn.input_matrix(Part::ffn_gate);
    ffn.weights.dense.up = ffn.input_matrix(Part::ffn_up);
  }
  ffn.weights.dense.down = ffn.down_matrix();
}

// The matrices of a layer that gathers neurons: rows, but for what decides who is exact.
void load_rows(const FfnJob& ffn, bool by_input) {
  LayerWeights& w = ffn.weights;
  w.fold.down = ffn.down_rows();
  w.by_neuron = true;
  if (by_input) return load_by_input(ffn);
  const bool gated = ffn.job.blueprint.gated, scores = w.spec.selection == SelectionKind::threshold;
  const auto in_planes = [&](Part part) { return has_planes(ffn.job.format_of(part, ffn.layer)); };  // rows only
  if (gated && (scores || w.spec.selection == SelectionKind::gate) && !in_planes(Part::ffn_gate))
    w.dense.gate = ffn.input_matrix(Part::ffn_gate);
  else if (gated)
    w.fold.gate = ffn.input_rows(Part::ffn_gate);
  if (!gated && scores && !in_planes(Part::ffn_up))
    w.dense.up = ffn.input_matrix(Part::ffn_up);
  else
    w.fold.up = ffn.input_rows(Part::ffn_up);
}

// The fold, and the lines of who is not exact.
void load_lines(const FfnJob& ffn) {
  FoldedFfn& fold = ffn.weights.fold;
  const bool gated = ffn.job.blueprint.gated, has_lines = gathers(ffn.weights.spec.selection);
  fold.fold_bias = ffn.job.loader.vector(ffn.name("fold.bias"), ffn.d, {0, ffn.d});
  if (ffn.weights.spec.lines) fold.fold = ffn.fold();
  if (ffn.weights.spec.lines && has_lines) {
    fold.slope = ffn.numbers("slope");
    fold.intercept = ffn.numbers("intercept");
    if (gated) fold.gate_slope = ffn.numbers("gate_slope");
    return;
  }
  for (Vector* line : {&fold.slope, &fold.intercept, &fold.gate_slope}) line->assign(size_t(ffn.neurons.size()), 0.0f);
}

// Who is computed exactly.
void load_selection(const FfnJob& ffn) {
  FoldedFfn& fold = ffn.weights.fold;
  const size_t count = size_t(ffn.neurons.size());
  const auto number = [&](const char* tensor) { return ffn.job.loader.vector(ffn.name(tensor), 1, {0, 1})[0]; };
  const auto threshold = [&] { return number("threshold"); };
  if (ffn.weights.spec.cuts_inputs) fold.input_threshold = number("input_threshold");
  switch (ffn.weights.spec.selection) {
    case SelectionKind::all:
    case SelectionKind::hot:
    case SelectionKind::core:
      return;
    case SelectionKind::range:
      fold.predictor = ffn.predictor("predictor");
      fold.range_low = ffn.numbers("range.low");
      fold.range_high = ffn.numbers("range.high");
      return;
    case SelectionKind::gate:
      fold.center = ffn.numbers("center");
      fold.factor = ffn.numbers("factor");
      fold.threshold = threshold();
      return;
    case SelectionKind::predictor:
      fold.predictor = ffn.predictor("predictor");
      fold.gate_predictor = ffn.predictor("gate_predictor");
      fold.factor = ffn.numbers("factor");
      fold.threshold = threshold();
      return;
    case SelectionKind::threshold:
      fold.center.assign(count, 0.0f);
      fold.factor.assign(count, 1.0f);
      fold.threshold = threshold();
      return;
    case SelectionKind::prompt:
      if (ffn.weights.spec.lines) fold.factor = ffn.numbers("factor");
      return;
  }
}

}  // namespace

void load_ffn(WeightJob& job, int layer, bool dense, LayerWeights& weights) {
  const int64_t d = job.blueprint.hidden, held = job.blueprint.held_neurons(layer);
  const ShardPlan plan = job.plan.with_neurons(held);
  weights.spec = job.blueprint.layer_fold(layer);
  weights.neurons = plan.neurons(job.rank).size();
  weights.neuron_offsets = plan.neuron_offsets(job.rank);
  const FfnJob ffn{job, layer, d, held, plan.neurons(job.rank), weights};
  const FfnFormats formats = job.blueprint.ffn_formats(layer, WeightFormat::bf16);
  weights.ffn_bytes =
      ffn_bytes(weights.spec, formats, job.blueprint.gated, d, job.blueprint.neurons, ffn.protected_counts());
  const std::string down_bias = job.blueprint.source(Part::ffn_down, layer).bias;
  if (!down_bias.empty()) weights.down_bias = job.loader.vector(down_bias, d, {0, d});
  weights.up_bias = ffn.neuron_bias(Part::ffn_up);
  if (job.blueprint.gated) weights.gate_bias = ffn.neuron_bias(Part::ffn_gate);

  const SelectionKind selection = weights.spec.selection;
  PLEAT_REQUIRE(!dense || selection != SelectionKind::hot, "the checkpoint keeps ", held, " of ", job.blueprint.neurons,
                " neurons (selection static): it cannot run densely");
  weights.folded = !dense && (selection != SelectionKind::all || weights.spec.cuts_inputs);
  const bool low_bit_inputs = is_low_bit(formats.up) || is_low_bit(formats.gate);
  const bool by_input = weights.spec.cuts_inputs && (!dense || low_bit_inputs);
  const bool by_row = is_low_bit(formats.down) || has_planes(formats.up) || has_planes(formats.gate);
  if (!gathers(selection) || (dense && !by_row))
    load_dense(ffn, by_input);
  else
    load_rows(ffn, by_input);
  if (!weights.folded) return;
  load_lines(ffn);
  load_selection(ffn);
}

}  // namespace pleat
