#include "launcher/model_folder.h"

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <optional>

#include "core/checkpoint/checkpoint.h"
#include "core/engine/device/device_executor.h"
#include "kernels/check.h"
#include "launcher/bootstrap.h"
#include "launcher/progress.h"

namespace pleat {
namespace {

void require_tensors(const Checkpoint& checkpoint, const Blueprint& blueprint, const WeightSource& source) {
  if (!source.weight.empty())
    checkpoint.require(blueprint.quantised.contains(source.weight) ? source.weight + ".codes" : source.weight);
  if (!source.bias.empty()) checkpoint.require(source.bias);
}

// Shown once loading has taken a second.
class LoadProgress {
 public:
  void update(int done, int parts, int64_t bytes) {
    const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
    if (seconds < 1) return;
    if (!progress_) progress_.emplace("loading", parts, false);
    char rate[32];
    std::snprintf(rate, sizeof rate, "%.2f GB/s", double(bytes) / seconds / 1e9);
    progress_->update(done, rate);
    if (done == parts) progress_->finish(rate);
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
  std::optional<Progress> progress_;
};

}  // namespace

void check_model(const std::string& folder, int ranks, Reduction reduction) {
  PLEAT_REQUIRE(std::filesystem::exists(folder), "there is no model folder or GGUF file '", folder, "'");
  const Checkpoint checkpoint = Checkpoint::open(folder);
  const Blueprint blueprint = read_blueprint(checkpoint);
  if (blueprint.source) {
    const auto require_parts = [&](Part first, Part last, int layer) {
      for (int part = int(first); part <= int(last); ++part)
        require_tensors(checkpoint, blueprint, blueprint.source(Part(part), layer));
    };
    require_parts(Part::token_embedding, Part::head, 0);
    for (int layer = 0; layer < blueprint.layers; ++layer)
      require_parts(Part::attention_norm, Part::ffn_output_norm, layer);
  }
  ShardPlan(sizes_of(blueprint), ranks, reduction);
}

LoadedModel load_on_ranks(const ModelOptions& model, const CommonOptions& options, Communicator& communicator) {
  LoadOptions load;
  load.dtype = weight_format_named(options.dtype);
  load.threads = options.threads > 0 ? options.threads : default_threads();
  load.oversubscribed = oversubscribed();
  load.reduction = reduction_kind(options);
  load.dense = model.dense;
  load.engine = model.engine;
  if (options.device == "cuda") load.backend = device_backend();
  LoadProgress progress;
  if (communicator.rank() == 0 && !options.quiet)
    load.progress = [&](int done, int parts, int64_t bytes) { progress.update(done, parts, bytes); };
  return load_model(model.folder, communicator, load);
}

std::string model_name(const std::string& folder) {
  std::filesystem::path path = std::filesystem::path(folder).lexically_normal();
  if (path.filename().empty()) path = path.parent_path();
  return path.filename().string();
}

}  // namespace pleat
