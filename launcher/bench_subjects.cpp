// The models a measurement runs on.
#include <unistd.h>

#include <cmath>
#include <map>

#include "core/engine/device/device_executor.h"
#include "kernels/attention.h"
#include "kernels/stream_read.h"
#include "launcher/bench.h"
#include "launcher/bootstrap.h"
#include "launcher/model_folder.h"
#include "launcher/together.h"
#include "parallel/host_memory.h"

namespace pleat {
namespace {

// Rotary positions as Llama has them.
Rotary plain_rotary(int head_size) {
  Rotary rotary;
  for (int i = 0; i < head_size / 2; ++i)
    rotary.frequency.push_back(std::pow(10000.0f, -2.0f * float(i) / float(head_size)));
  return rotary;
}

// The published shapes of GPT2-XL, Falcon-7B (one key-value head; attention and FFN side by side), Llama-2-7B (SwiGLU),
// Llama-3-8B (8 key-value heads) and SmolLM2-135M, and two of GPT-2's kind, one that runs in a second and one that an
// emulated device runs.
Blueprint shape_named(const std::string& name) {
  struct Shape {
    int64_t hidden, neurons, vocab;
    int layers, heads, kv_heads;
    enum { gpt2, falcon, llama } kind;
  };
  static const std::map<std::string, Shape> shapes = {{"gpt2-xl", {1600, 6400, 50257, 48, 25, 25, Shape::gpt2}},
                                                      {"falcon-7b", {4544, 18176, 65024, 32, 71, 1, Shape::falcon}},
                                                      {"llama-2-7b", {4096, 11008, 32000, 32, 32, 32, Shape::llama}},
                                                      {"llama-3-8b", {4096, 14336, 128256, 32, 32, 8, Shape::llama}},
                                                      {"smollm2-135m", {576, 1536, 49152, 30, 9, 3, Shape::llama}},
                                                      {"small", {1024, 4096, 8192, 4, 16, 16, Shape::gpt2}},
                                                      {"tiny", {128, 512, 512, 2, 2, 2, Shape::gpt2}}};
  const auto it = shapes.find(name);
  if (it == shapes.end()) {
    std::string known;
    for (const auto& [shape_name, _] : shapes) known += (known.empty() ? "" : ", ") + shape_name;
    PLEAT_REQUIRE(false, "unknown shape '", name, "', known: ", known);
  }
  const Shape& shape = it->second;
  Blueprint blueprint;
  blueprint.family = name;
  blueprint.hidden = blueprint.embedding = shape.hidden;
  blueprint.neurons = shape.neurons;
  blueprint.vocab = shape.vocab;
  blueprint.max_positions = 2048;
  blueprint.layers = shape.layers;
  blueprint.heads = shape.heads;
  blueprint.kv_heads = shape.kv_heads;
  blueprint.head_size = int(shape.hidden / shape.heads);
  blueprint.attention_scale = 1.0f / std::sqrt(float(blueprint.head_size));
  if (shape.kind != Shape::gpt2) {
    blueprint.positions = PositionKind::rotary;
    blueprint.rotaries = {plain_rotary(blueprint.head_size)};
  }
  blueprint.parallel_residual = shape.kind == Shape::falcon;
  if (shape.kind == Shape::llama) {
    blueprint.norm = NormKind::rms_norm;
    blueprint.activation = Activation::silu;
    blueprint.gated = true;
  }
  return blueprint;
}

// So many layers that what is measured, side by side, takes at most 85% of the free memory; a low-bit one counts as a
// second dense one.
int fitting_layers(const Blueprint& blueprint, bool folded_too, bool low_bit_too) {
  const double attention =
      2.0 * double(blueprint.hidden) * double(2 * blueprint.hidden + 2 * blueprint.kv_heads * blueprint.head_size);
  const double ffn = (blueprint.gated ? 6.0 : 4.0) * double(blueprint.hidden * blueprint.neurons);
  const double layer = (low_bit_too ? 2 : 1) * (attention + ffn) + (folded_too ? attention + 1.25 * ffn : 0);
  const double head = 2.0 * double(blueprint.vocab * blueprint.hidden) * (1 + folded_too + low_bit_too);
  return std::max(1, std::min(blueprint.layers, int((0.85 * double(host_memory().available) - head) / layer)));
}

EngineOptions engine_options(const BenchOptions& options) {
  EngineOptions engine = cache_options(options.common);
  engine.max_rows = std::max({options.batch, options.tokens, 16});
  engine.max_logit_rows = options.batch;
  engine.max_sequences = options.batch;
  engine.kv_tokens = int64_t(options.batch) * (options.context + options.tokens + 64 + kPageTokens);
  return engine;
}

Subjects synthetic_subjects(Communicator& communicator, const BenchOptions& options, int threads) {
  Blueprint blueprint = shape_named(options.synthetic);
  blueprint.layers = options.layers > 0
                         ? options.layers
                         : int(communicator.agree_min(
                               "layers", fitting_layers(blueprint, options.fold > 0, !options.weights.empty())));
  blueprint.attention.assign(size_t(blueprint.layers), {});
  PLEAT_REQUIRE(options.context + options.tokens + 16 < blueprint.max_positions, "context and tokens exceed ",
                blueprint.max_positions, " positions");
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
    Weights weights = synthetic_weights(blueprint, plan, communicator.rank(), format, *subjects.context);
    communicator.ledger().beat();
    const int64_t bytes = int64_t(weights.bytes());
    subjects.all.push_back({name,
                            std::make_unique<Engine>(blueprint, std::move(weights), plan, communicator,
                                                     *subjects.context, engine_options(options)),
                            fold > 0, bytes});
    if (options.common.device == "cuda") subjects.all.back().engine->run_on(device_executor());
  };
  const WeightFormat floats = weight_format_named(options.common.dtype);
  add("dense", floats, 0);
  if (!options.weights.empty()) add(options.weights, weight_format_named(options.weights), 0);
  if (options.fold > 0) add("folded", floats, options.fold);
  if (options.fold > 0 && !options.weights.empty())
    add("folded " + options.weights, weight_format_named(options.weights), options.fold);
  return subjects;
}

Subjects folder_subjects(Communicator& communicator, const BenchOptions& options, int threads) {
  agree(communicator, [&] { check_model(options.model, communicator.ranks(), reduction_kind(options.common)); });
  Subjects subjects;
  for (const bool folded : {false, true}) {
    LoadOptions load;
    load.dtype = weight_format_named(options.common.dtype);
    load.threads = threads;
    load.oversubscribed = oversubscribed();
    load.reduction = reduction_kind(options.common);
    load.dense = !folded;
    load.engine = engine_options(options);
    if (options.common.device == "cuda") load.executor = device_executor();
    if (folded && !subjects.all[0].engine->blueprint().fold) continue;
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
    double sum = 0;
    for (double part : gather_values(communicator, "bandwidth", mine)) sum += part;
    best = std::max(best, sum);
  }
  return best;
}

}  // namespace pleat
