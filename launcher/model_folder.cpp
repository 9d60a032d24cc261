#include "launcher/model_folder.h"

#include <filesystem>

#include "core/checkpoint/checkpoint.h"
#include "kernels/check.h"
#include "launcher/bootstrap.h"

namespace pleat {
namespace {

void require_tensors(const Checkpoint& checkpoint, const WeightSource& source) {
  if (!source.weight.empty()) checkpoint.require(source.weight);
  if (!source.bias.empty()) checkpoint.require(source.bias);
}

}  // namespace

void check_model(const std::string& folder, int ranks, Reduction reduction) {
  PLEAT_REQUIRE(std::filesystem::is_directory(folder), "there is no model folder '", folder, "'");
  const Checkpoint checkpoint = Checkpoint::open(folder);
  const Blueprint blueprint = read_blueprint(checkpoint);
  if (blueprint.source) {
    for (Part part : {Part::token_embedding, Part::position_embedding, Part::final_norm, Part::head})
      require_tensors(checkpoint, blueprint.source(part, 0));
    for (int layer = 0; layer < blueprint.layers; ++layer)
      for (Part part : {Part::attention_norm, Part::query, Part::key, Part::value, Part::attention_output,
                        Part::ffn_norm, Part::ffn_up, Part::ffn_down})
        require_tensors(checkpoint, blueprint.source(part, layer));
  }
  ShardPlan(sizes_of(blueprint), ranks, reduction);
}

ModelSizes sizes_of(const Blueprint& blueprint) {
  return {blueprint.hidden, blueprint.vocab, blueprint.neurons, blueprint.heads, blueprint.kv_heads};
}

LoadedModel load_on_ranks(const ModelOptions& model, const CommonOptions& options, Communicator& communicator) {
  LoadOptions load;
  load.dtype = weight_format(options.dtype);
  load.threads = options.threads > 0 ? options.threads : default_threads();
  load.oversubscribed = oversubscribed();
  load.reduction = reduction_kind(options);
  load.dense = model.dense;
  load.engine = model.engine;
  return load_model(model.folder, communicator, load);
}

std::string model_name(const std::string& folder) {
  std::filesystem::path path = std::filesystem::path(folder).lexically_normal();
  if (path.filename().empty()) path = path.parent_path();
  return path.filename().string();
}

}  // namespace pleat
