// The models a measurement runs on.
#include <unistd.h>

#include <algorithm>

#include "core/checkpoint/checkpoint.h"
#include "core/engine/device/device_executor.h"
#include "kernels/attention.h"
#include "kernels/context.h"
#include "kernels/stream_read.h"
#include "launcher/bench.h"
#include "launcher/bootstrap.h"
#include "launcher/model_folder.h"
#include "launcher/together.h"
#include "parallel/host_memory.h"

namespace pleat {
namespace {

// So many layers that what is measured, side by side, takes at most 85% of the free memory; low-bit ones count
// as others do.
int fitting_layers(const Blueprint& blueprint, size_t folds, bool low_bit_too) {
  const double attention =
      2.0 * double(blueprint.hidden) * double(2 * blueprint.hidden + 2 * blueprint.kv_heads * blueprint.head_size);
  const double ffn = (blueprint.gated ? 6.0 : 4.0) * double(blueprint.hidden * blueprint.neurons);
  const double dense = low_bit_too ? 2 : 1, folded = double(folds) * dense;
  const double layer = dense * (attention + ffn) + folded * (attention + 1.25 * ffn);
  const double head = 2.0 * double(blueprint.vocab * blueprint.hidden) * (dense + folded);
  return std::max(1, std::min(blueprint.layers, int((0.85 * double(host_memory().available) - head) / layer)));
}

EngineOptions engine_options(const BenchOptions& options) {
  EngineOptions engine = cache_options(options.common);
  const int batch = std::ranges::max(options.batches);
  engine.max_rows = std::max({batch, options.tokens, 16});
  engine.max_logit_rows = batch;
  engine.max_sequences = batch;
  engine.phases = options.profile;
  engine.kv_tokens = int64_t(batch) * (options.context + options.tokens + 64 + kPageTokens);
  return engine;
}

void check_positions(const BenchOptions& options, const Blueprint& blueprint) {
  PLEAT_REQUIRE(options.context + options.tokens + 16 < blueprint.max_positions,
                "--context and --tokens together exceed ", blueprint.max_positions, " positions");
}

Subjects synthetic_subjects(Communicator& communicator, const BenchOptions& options, int threads) {
  Blueprint blueprint = shape_named(options.synthetic);
  check_positions(options, blueprint);
  blueprint.layers = options.layers > 0
                         ? options.layers
                         : int(communicator.agree_min(
                               "layers", fitting_layers(blueprint, options.folds.size(), !options.weights.empty())));
  blueprint.attention.assign(size_t(blueprint.layers), {});
  Backend backend;
  if (options.common.device == "cuda") backend = device_backend();
  if (backend.take) backend.take(communicator);
  Subjects subjects;
  subjects.layers = blueprint.layers;
  subjects.context = std::make_unique<Context>(threads, oversubscribed(),
                                               Isa(communicator.agree_min("instruction set", int(detect_isa()))));
  const auto add = [&](const std::string& name, WeightFormat format, double fold) {
    // Over low-bit rows the exact gate is the better judge: predictors would be half of the bytes.
    const SelectionKind of_gated = is_low_bit(format) ? SelectionKind::gate : SelectionKind::predictor;
    const LayerFoldSpec spec{.selection = blueprint.gated ? of_gated : SelectionKind::range};
    if (fold > 0)
      blueprint.fold =
          FoldSpec{.layers = std::vector<LayerFoldSpec>(size_t(blueprint.layers), spec), .reduction = fold};
    ModelSizes sizes = sizes_of(blueprint);
    if (is_low_bit(format)) sizes.neuron_unit = kGroup;
    const ShardPlan plan(sizes, communicator.ranks(), reduction_kind(options.common));
    const std::unique_ptr<ExecutorBuilder> builder =
        backend.begin ? backend.begin(blueprint, plan, communicator.rank()) : nullptr;
    Weights weights = synthetic_weights(blueprint, plan, communicator.rank(), format, *subjects.context, builder.get());
    communicator.ledger().beat();
    const int64_t bytes = int64_t(weights.bytes());
    subjects.all.push_back({name,
                            std::make_unique<Engine>(blueprint, std::move(weights), plan, communicator,
                                                     *subjects.context, engine_options(options), builder.get()),
                            fold > 0, bytes});
  };
  const WeightFormat floats = weight_format_named(options.common.dtype);
  add("dense", floats, 0);
  if (!options.weights.empty()) add(options.weights, weight_format_named(options.weights), 0);
  for (double fold : options.folds) {
    const std::string name = options.folds.size() == 1 ? "folded" : concat("folded ", fold);
    add(name, floats, fold);
    if (!options.weights.empty()) add(concat(name, " ", options.weights), weight_format_named(options.weights), fold);
  }
  return subjects;
}

// Whether a layer keeps some of its neurons only.
bool runs_folded_only(const Blueprint& blueprint) {
  return blueprint.fold && std::ranges::any_of(blueprint.fold->layers, [](const LayerFoldSpec& layer) {
           return layer.selection == SelectionKind::hot;
         });
}

Subjects folder_subjects(Communicator& communicator, const BenchOptions& options, int threads) {
  Blueprint blueprint;
  agree(communicator, [&] {
    check_model(options.model, communicator.ranks(), reduction_kind(options.common));
    blueprint = read_blueprint(Checkpoint::open(options.model));
    check_positions(options, blueprint);
  });
  Subjects subjects;
  std::vector<bool> folded_or_not = {false, true};
  if (runs_folded_only(blueprint)) folded_or_not = {true};
  for (const bool folded : folded_or_not) {
    LoadOptions load;
    load.dtype = weight_format_named(options.common.dtype);
    load.threads = threads;
    load.oversubscribed = oversubscribed();
    load.reduction = reduction_kind(options.common);
    load.dense = !folded;
    load.engine = engine_options(options);
    if (options.common.device == "cuda") load.backend = device_backend();
    if (folded && !blueprint.fold) continue;
    LoadedModel model = load_model(options.model, communicator, load);
    subjects.layers = model.blueprint.layers;
    if (!subjects.context)
      subjects.context = std::move(model.context);
    else
      subjects.more_contexts.push_back(std::move(model.context));
    subjects.all.push_back({folded ? "folded" : "dense", std::move(model.engine), folded, model.weight_bytes});
  }
  return subjects;
}

}  // namespace

Subjects make_subjects(Communicator& communicator, const BenchOptions& options) {
  PLEAT_REQUIRE(options.model.empty() != options.synthetic.empty(), "name a model: --model DIR or --synthetic SHAPE");
  const int threads = options.common.threads > 0 ? options.common.threads : default_threads();
  Subjects subjects = options.model.empty() ? synthetic_subjects(communicator, options, threads)
                                            : folder_subjects(communicator, options, threads);
  const Blueprint& b = subjects.all[0].engine->blueprint();
  subjects.shape =
      concat(b.family, ": hidden ", b.hidden, ", FFN ", b.neurons, ", ", b.heads, " heads, ", b.kv_heads,
             " key-value heads, ", b.layers, " layers; ", communicator.ranks(), " ranks x ", threads, " threads");
  return subjects;
}

namespace {

double host_read_bandwidth(Context& context) {
  static const Buffer memory = [&] {
    Buffer buffer(size_t(3) << 29);  // 1.5 GiB
    for (size_t i = 0; i < buffer.bytes(); i += 4096) buffer.as<std::byte>()[i] = std::byte(i >> 12);
    return buffer;
  }();
  return stream_read(context, memory);
}

}  // namespace

double total_bandwidth(Communicator& communicator, Context& context, bool on_device) {
  double best = 0;
  for (int pass = 0; pass < 3; ++pass) {
    communicator.ledger().beat();
    communicator.barrier("bandwidth");
    const double mine = on_device ? device_copy_bandwidth() : host_read_bandwidth(context);
    // Each reads or copies as much: the slowest one's time is everybody's.
    const std::vector<double> all = gather_values(communicator, "bandwidth", mine);
    if (!all.empty()) best = std::max(best, double(all.size()) * std::ranges::min(all));
  }
  return best;
}

}  // namespace pleat
