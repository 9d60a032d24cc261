#include <chrono>

#include "core/checkpoint/checkpoint.h"
#include "core/engine/engine.h"
#include "kernels/context.h"

namespace pleat {

namespace {

// That one host may take longer to read its share than another.
constexpr std::chrono::minutes kSlowerFiles{30};

}  // namespace

ModelSizes sizes_of(const Blueprint& blueprint) {
  ModelSizes sizes{blueprint.hidden, blueprint.vocab, blueprint.neurons, blueprint.heads, blueprint.kv_heads};
  // Matrices whose scales are shared between neurons.
  for (int layer = 0; layer < blueprint.layers && !blueprint.quantised.empty(); ++layer) {
    const LayerFoldSpec& spec = blueprint.layer_fold(layer);
    const FfnFormats formats = blueprint.ffn_formats(layer, WeightFormat::f32);
    if ((!gathers(spec.selection) && is_low_bit(formats.down)) ||
        (spec.cuts_inputs && (is_low_bit(formats.gate) || is_low_bit(formats.up))))
      sizes.neuron_unit = kGroup;
  }
  return sizes;
}

LoadedModel load_model(const std::string& folder, Communicator& communicator, const LoadOptions& options) {
  const Checkpoint checkpoint = Checkpoint::open(folder);
  LoadedModel model;
  model.blueprint = read_blueprint(checkpoint);
  const Blueprint& blueprint = model.blueprint;
  const ShardPlan plan(sizes_of(blueprint), communicator.ranks(), options.reduction);
  communicator.ledger().set_phase("loading");
  if (options.backend.take) options.backend.take(communicator);
  model.context = std::make_unique<Context>(options.threads, options.oversubscribed,
                                            Isa(communicator.agree_min("instruction set", int(detect_isa()))));
  const auto after_part = [&](int done, int parts) {
    if (options.progress) options.progress(done, parts, checkpoint.bytes_read());
  };
  const std::unique_ptr<ExecutorBuilder> builder =
      options.backend.begin ? options.backend.begin(blueprint, plan, communicator.rank()) : nullptr;
  Weights weights =
      load_weights(checkpoint, blueprint, plan, communicator.rank(), options.dtype, options.dense,
                   model.context->team(), {[&] { communicator.ledger().beat(); }, after_part}, builder.get());
  communicator.barrier_after("loaded", kSlowerFiles);
  model.bytes_read = checkpoint.bytes_read();
  model.weight_bytes = int64_t(weights.bytes());
  EngineOptions engine = options.engine;
  if (!engine.kv_dtype && options.dtype == WeightFormat::f32) engine.kv_dtype = DType::f32;
  model.engine = std::make_unique<Engine>(blueprint, std::move(weights), plan, communicator, *model.context, engine,
                                          builder.get());
  communicator.ledger().set_phase("running");
  return model;
}

}  // namespace pleat
