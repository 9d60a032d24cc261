// What the report counts of a layer, against what its folder holds, and what the engine counts as read.
#include <gtest/gtest.h>

#include "core/checkpoint/checkpoint.h"
#include "core/fold/fold.h"
#include "tests/core/engine/run.h"
#include "tests/core/rewritten_model.h"
#include "tests/temporary_folder.h"

namespace pleat::test {
namespace {

// But the factors of lines that a prompt chooses by, which are read with the prompt.
TEST(FfnBytes, AllNeuronsAndInputsReadWhatIsStored) {
  using enum SelectionKind;
  const int64_t hidden = 72, neurons = 130;
  for (const bool gated : {false, true})
    for (const SelectionKind selection : {all, range, gate, predictor, threshold, prompt, core, hot})
      for (const bool lines : {false, true})
        for (const bool cuts : {false, true})
          for (const WeightFormat format : {WeightFormat::bf16, WeightFormat::int4, WeightFormat::planes3}) {
            if (!is_for(selection, gated) || (cuts && !can_cut_inputs(selection))) continue;
            LayerFoldSpec spec{.selection = selection, .lines = lines};
            spec.neurons = 40;
            spec.cuts_inputs = cuts;
            const ProtectedCounts kept = is_low_bit(format) ? ProtectedCounts{8, 8, 8} : ProtectedCounts{};
            const FfnBytes bytes = ffn_bytes(spec, {format, format, format}, gated, hidden, neurons, kept);
            const int64_t factors = selection == prompt && lines ? neurons * 4 : 0;
            EXPECT_EQ(bytes.fixed + neurons * bytes.per_neuron + hidden * bytes.per_input + factors, bytes.stored)
                << gated << name_of(selection) << lines << cuts << name_of(format);
          }
}

// Of the FFNs; a bias is held in f32, the down matrix's only for prompts.
int64_t ffn_bytes_of(const Checkpoint& folded, bool with_biases) {
  int64_t out = 0;
  for (const std::string& name : folded.names()) {
    const TensorInfo& info = folded.require(name);
    int64_t count = 1;
    for (const int64_t size : info.shape) count *= size;
    if (name.ends_with("c_fc.bias"))
      out += with_biases ? count * 4 : 0;
    else if ((name.starts_with("pleat.") && count > 1) ||
             (name.find(".mlp.") != std::string::npos && !name.ends_with("c_proj.bias")))
      out += count * int64_t(size_of(info.dtype));
  }
  return out;
}

int64_t protected_count(const Checkpoint& folded, const std::string& name) {
  return folded.require(name + ".protected").shape[0];
}

TEST(FfnBytes, StoredAreThoseOfTheFoldersTensors) {
  const TemporaryFolder scratch;
  // Input 3 and neuron 7 of each layer are extreme.
  rewrite_model(fixture("families/gpt2"), scratch / "model", [](const std::string& name, std::vector<float>& values) {
    if (name.ends_with("ln_2.weight") && !values.empty()) values[3] *= 1000;
    if (name.ends_with("c_fc.bias") && !values.empty()) values[7] += 1e5f;
    return name;
  });
  std::filesystem::copy(fixture("families/tokenizer.json"), scratch / "model");
  const Blueprint blueprint = read_blueprint(Checkpoint::open(scratch / "model"));
  const std::string formats = R"("up": "int4", "down": "int4")";
  int number = 0;
  for (const std::string selection :
       {R"("all")", R"("range", "exact": 0.2)", R"("threshold", "exact": 0.4)",
        R"("threshold", "exact": 0.4, "inputs": 0.6)", R"("prompt", "exact": 0.4)", R"("static", "exact": 0.4)"}) {
    SCOPED_TRACE(selection);
    std::string layers;
    for (int layer = 0; layer < blueprint.layers; ++layer)
      layers += (layer ? ", " : "") + (R"({"selection": )" + selection + ", " + formats + "}");
    FoldOptions options;
    options.model = scratch / "model";
    options.text = PLEAT_SOURCE_DIR "/examples/calibration.txt";
    options.out = scratch / std::to_string(number++);
    options.recipe = scratch.write("recipe.json", "{\"layers\": [" + layers + "]}");
    options.max_tokens = 1024;
    options.oversubscribed = true;
    const FoldReport report = fold_model(options);
    const Checkpoint folded = Checkpoint::open(options.out);
    for (const Part part : {Part::ffn_up, Part::ffn_down})
      EXPECT_NE(folded.find(blueprint.source(part, 1).weight + ".protected"), nullptr);
    EXPECT_EQ(report.total.stored, double(ffn_bytes_of(folded, gathers(report.recipe[0].selection))));
    EXPECT_LE(report.total.read[2], report.total.stored);
    const Blueprint changed = read_blueprint(folded);
    const LayerFoldSpec& spec = changed.layer_fold(0);
    if (spec.cuts_inputs || by_prompt(spec.selection) || spec.selection == SelectionKind::all) continue;
    with_engine(options.out, 1, {}, [&](Engine& engine, Communicator& communicator) {
      run_tokens(engine, communicator, {1, 2, 3}, 3, true);  // two rows of which run folded, in one pass
      int64_t read = 0;
      for (int layer = 0; layer < blueprint.layers; ++layer) {
        const FfnBytes bytes = ffn_bytes(changed.layer_fold(layer), changed.ffn_formats(layer, WeightFormat::bf16),
                                         blueprint.gated, blueprint.hidden, blueprint.neurons,
                                         {0, protected_count(folded, changed.source(Part::ffn_up, layer).weight),
                                          protected_count(folded, changed.source(Part::ffn_down, layer).weight)});
        read += bytes.fixed + engine.statistics().gathered[size_t(layer)] * bytes.per_neuron;
      }
      EXPECT_EQ(engine.statistics().ffn_bytes_read, read);
    });
  }
}

}  // namespace
}  // namespace pleat::test
