#pragma once
// Tiny models, folded by any recipe.
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/fold/fold.h"
#include "kernels/check.h"
#include "tests/core/engine/run.h"
#include "tests/temporary_folder.h"

namespace pleat::test {

namespace fs = std::filesystem;

// Two tiny dense models, and what is made of them.
class Models {
 public:
  Models() {
    for (const char* family : {"llama-3.1", "gpt2"}) {
      fs::create_directory(folder_ / family);
      for (const char* file : {"config.json", "model.safetensors"})
        fs::copy(fixture(std::string("families/") + family + "/" + file), folder_ / family);
      fs::copy(fixture("families/tokenizer.json"), folder_ / family);
    }
  }

  static fs::path dense(bool gated) { return get().folder_ / (gated ? "llama-3.1" : "gpt2"); }

  // The model with one recipe for all layers.
  static std::string folded(bool gated, const LayerRecipe& recipe) {
    return folded(gated, std::vector<LayerRecipe>(size_t(layers_of(gated)), recipe));
  }
  static std::string folded(bool gated, const std::vector<LayerRecipe>& recipes) {
    std::string name = concat(gated);
    for (const LayerRecipe& recipe : recipes) name += to_text(recipe, gated);
    const fs::path out = get().folder_ / ("folded-" + std::to_string(std::hash<std::string>()(name)));
    if (fs::exists(out)) return out;
    nlohmann::ordered_json layers = nlohmann::ordered_json::array();
    for (const LayerRecipe& recipe : recipes) layers.push_back(to_json(recipe, gated));
    const fs::path file = get().folder_ / "recipe.json";
    std::ofstream(file) << nlohmann::ordered_json{{"layers", layers}}.dump();
    FoldOptions options;
    options.model = dense(gated);
    options.text = PLEAT_SOURCE_DIR "/examples/calibration.txt";
    options.out = out;
    options.recipe = file;
    options.max_tokens = 2048;
    options.oversubscribed = true;
    fold_model(options);
    return out;
  }

 private:
  static Models& get() {
    static Models models;
    return models;
  }
  static int layers_of(bool gated) {
    std::ifstream in(dense(gated) / "config.json");
    const nlohmann::json config = nlohmann::json::parse(in);
    return config.value("num_hidden_layers", config.value("n_layer", 0));
  }
  const TemporaryFolder folder_;
};

}  // namespace pleat::test
