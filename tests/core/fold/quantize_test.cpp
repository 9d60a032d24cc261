// What `pleat quantize` writes, and what it refuses.
#include "core/fold/quantize.h"

#include <fstream>

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/safetensors_writer.h"
#include "core/fold/fold.h"
#include "core/model/blueprint.h"
#include "tests/core/engine/run.h"
#include "tests/core/fold/quantised_models.h"

namespace pleat::test {
namespace {

namespace fs = std::filesystem;

TEST(Quantize, CountsTheBytes) {
  const TemporaryFolder scratch;
  const QuantizeReport report = quantize_model(options_for(fixture("families/llama-3.1"), scratch / "low"));
  for (const QuantizedPart& part : report.parts) {
    if (!part.note.empty()) continue;
    if (part.name == "up") {
      EXPECT_EQ(part.bytes_before % (72 * 130 * 2), 0);
      EXPECT_EQ(part.bytes_after * (72 * 130 * 2), part.bytes_before * (130 * (45 + 2 * 2 * 2)));
    }
    EXPECT_GT(part.error, 0);
    EXPECT_LT(part.error, 0.02);
  }
}

// Neuron 7 of layer 0 four thousand times as loud and its down column as much softer: the same function, and a scale
// that would leave nothing of the 63 neurons beside it.
TEST(Quantize, ProtectsInputsWithExtremeActivations) {
  const TemporaryFolder scratch;
  const std::string original = fixture("families/llama-3.1"), loud = scratch / "loud";
  fs::create_directory(loud);
  fs::copy(original + "/config.json", loud);
  fs::copy(fixture("families/tokenizer.json"), loud);
  const Checkpoint checkpoint = Checkpoint::open(original);
  SafetensorsWriter writer(fs::path(loud) / "model.safetensors", {});
  for (const std::string& name : checkpoint.names()) writer.add(name, DType::f32, checkpoint.require(name).shape);
  writer.begin();
  for (const std::string& name : checkpoint.names()) {
    std::vector<float> values = checkpoint.read_f32(name);
    if (name == "model.layers.0.mlp.up_proj.weight")
      for (int64_t i = 0; i < 72; ++i) values[size_t(7 * 72 + i)] *= 4096;
    if (name == "model.layers.0.mlp.up_proj.bias") values[7] *= 4096;
    if (name == "model.layers.0.mlp.down_proj.weight")
      for (int64_t i = 0; i < 72; ++i) values[size_t(i * 130 + 7)] /= 4096;
    writer.write(name, values.data(), values.size() * sizeof(float));
  }
  writer.finish();

  QuantizeOptions options = options_for(loud, scratch / "low");
  options.down = options.gate_up = options.attention = WeightFormat::int8;
  options.text = std::string(PLEAT_SOURCE_DIR) + "/examples/calibration.txt";
  options.max_tokens = 2048;
  const QuantizeReport report = quantize_model(options);
  for (const QuantizedPart& part : report.parts) EXPECT_EQ(part.protected_inputs, part.name == "down") << part.name;
  const Checkpoint low = Checkpoint::open(scratch / "low");
  std::vector<int32_t> inputs(1);
  low.read("model.layers.0.mlp.down_proj.weight.protected", 0, 1, 0, 1, inputs.data());
  EXPECT_EQ(inputs[0], 7);

  std::vector<int32_t> ids;
  for (int i = 0; i < 40; ++i) ids.push_back(2 + i * 37 % 250);
  const auto logits = [&](const std::string& folder, int ranks) {
    LoadOptions load;
    load.dtype = WeightFormat::f32;
    std::vector<float> out;
    with_engine(folder, ranks, load,
                [&](Engine& engine, Communicator& c) { out = run_tokens(engine, c, ids, 64, false); });
    return out;
  };
  const std::vector<float> dense = logits(loud, 1), alone = logits(scratch / "low", 1);
  EXPECT_LT(distance(alone, dense), 3e-3);
  for (int ranks : {2, 3}) EXPECT_EQ(logits(scratch / "low", ranks), alone) << ranks << " ranks";
}

TEST(Quantize, ABudgetGivesEachLayerAndMatrixItsPlanesWithinTheBytes) {
  const TemporaryFolder scratch;
  const std::string model = scratch / "model";
  fs::create_directory(model);
  for (const char* file : {"llama-3.1/config.json", "llama-3.1/model.safetensors", "tokenizer.json"})
    fs::copy(fixture(std::string("families/") + file), model);
  QuantizeOptions options = options_for(model, scratch / "low");
  options.down = options.gate_up = WeightFormat::planes4;
  options.attention = options.head = WeightFormat::bf16;
  options.text = std::string(PLEAT_SOURCE_DIR) + "/examples/calibration.txt";
  options.max_tokens = 2048;
  options.budget = 0.27;  // of groups that the small matrices do not fill
  const QuantizeReport report = quantize_model(options);
  int64_t before = 0, after = 0;
  for (const QuantizedPart& part : report.parts) before += part.bytes_before, after += part.bytes_after;
  EXPECT_LE(double(after), options.budget * double(before));
  const Blueprint blueprint = read_blueprint(Checkpoint::open(scratch / "low"));
  ASSERT_EQ(report.choices.size(), size_t(2 * blueprint.layers));
  for (const PlaneChoice& choice : report.choices) {
    const std::string name = concat("planes", choice.planes);
    EXPECT_EQ(
        name_of(blueprint.format_of(choice.down ? Part::ffn_down : Part::ffn_up, choice.layer, WeightFormat::f32)),
        name);
    EXPECT_GT(choice.kl, 0);
  }
  options.out = scratch / "none", options.budget = 0.1;
  EXPECT_THROW(quantize_model(options), Error);
  options.text = "", options.budget = 0.3;
  EXPECT_THROW(quantize_model(options), Error);
}

std::vector<std::byte> bytes_of(const Checkpoint& checkpoint, const std::string& name) {
  const TensorInfo& info = checkpoint.require(name);
  const int64_t rows = info.shape.size() < 2 ? 1 : info.shape[0], cols = info.shape.back();
  std::vector<std::byte> bytes(size_t(rows * cols) * size_of(info.dtype));
  checkpoint.read(name, 0, rows, 0, cols, bytes.data());
  return bytes;
}

// The fold's part stays to the byte, the others are those of the dense model quantised; and it runs, also where it can
// no longer run densely.
TEST(Quantize, OfAFoldedModelAttentionAndHead) {
  for (const SelectionKind selection : {SelectionKind::gate, SelectionKind::hot}) {
    const TemporaryFolder scratch;
    const std::string dense = scratch / "dense", folded = scratch / "folded", low = scratch / "low";
    fs::create_directory(dense);
    for (const char* file : {"llama-3.1/config.json", "llama-3.1/model.safetensors", "tokenizer.json"})
      fs::copy(fixture(std::string("families/") + file), dense);
    FoldOptions fold;
    fold.model = dense;
    fold.text = std::string(PLEAT_SOURCE_DIR) + "/examples/calibration.txt";
    fold.max_tokens = 1024;
    fold.out = folded;
    fold.selection = selection;
    fold.rows = {WeightFormat::int4, WeightFormat::int4, WeightFormat::int5};
    fold.reduction = 0.55;  // of groups that the small matrices do not fill
    fold_model(fold);

    QuantizeOptions options = options_for(folded, low);
    EXPECT_THROW(quantize_model(options), Error) << "another format of the down matrix";
    options.down.reset();
    const QuantizeReport report = quantize_model(options);
    for (const QuantizedPart& part : report.parts) EXPECT_TRUE(part.name != "up" && part.name != "gate") << part.name;
    options.model = dense, options.out = scratch / "dense-low";
    quantize_model(options);
    const Checkpoint of_fold = Checkpoint::open(folded), of_low = Checkpoint::open(low),
                     of_dense = Checkpoint::open(options.out);
    size_t fold_tensors = 0;
    for (const std::string& name : of_fold.names()) {
      if (of_low.find(name) == nullptr) continue;
      EXPECT_EQ(bytes_of(of_low, name), bytes_of(of_fold, name)) << name;
      fold_tensors += name.starts_with("pleat.layers") || name.find("mlp") != std::string::npos;
    }
    EXPECT_GT(fold_tensors, 10u);
    size_t quantised = 0;
    for (const std::string& name : of_low.names()) {
      if (of_fold.find(name) != nullptr) continue;
      EXPECT_EQ(bytes_of(of_low, name), bytes_of(of_dense, name)) << name;
      ++quantised;
    }
    EXPECT_GE(quantised, 3u);

    std::vector<int32_t> ids;
    for (int i = 0; i < 40; ++i) ids.push_back(2 + i * 37 % 250);
    const auto logits = [&](const std::string& folder, int ranks) {
      std::vector<float> out;
      with_engine(folder, ranks, {},
                  [&](Engine& engine, Communicator& c) { out = run_tokens(engine, c, ids, 1, true); });
      return out;
    };
    const std::vector<float> alone = logits(low, 1);
    EXPECT_LT(distance(alone, logits(folded, 1)), 0.01);
    for (int ranks : {2, 3}) EXPECT_EQ(logits(low, ranks), alone) << ranks << " ranks";
    options.model = low, options.out = scratch / "again";
    EXPECT_THROW(quantize_model(options), Error);
  }
}

TEST(Quantize, RefusesQuantisedModelsAndShortTexts) {
  const TemporaryFolder scratch;
  const std::string tiny = fixture("families/llama-3.1"), low = scratch / "low";
  quantize_model(options_for(tiny, low));
  EXPECT_THROW(quantize_model(options_for(low, scratch / "again")), Error);
  FoldOptions fold;
  fold.model = low;
  fold.text = std::string(PLEAT_SOURCE_DIR) + "/examples/calibration.txt";
  fold.out = scratch / "folded";
  EXPECT_THROW(fold_model(fold), Error);

  fs::create_directory(scratch / "tiny");
  for (const char* file : {"llama-3.1/config.json", "llama-3.1/model.safetensors", "tokenizer.json"})
    fs::copy(fixture(std::string("families/") + file), scratch / "tiny");
  std::ofstream(scratch / "short") << "a few words";
  QuantizeOptions options = options_for(scratch / "tiny", scratch / "other");
  options.text = scratch / "short";
  EXPECT_THROW(quantize_model(options), Error);
  EXPECT_FALSE(fs::exists(scratch / "other"));
}

TEST(QuantisedTensors, RefusesMetadataThatMakesNoSense) {
  EXPECT_EQ(quantised_tensors_from_metadata(to_metadata({{"a", WeightFormat::int3}})).at("a"), WeightFormat::int3);
  for (const char* text :
       {"", "[]", "{}", R"({"version": 2, "tensors": {}})", R"({"version": 1, "tensors": []})",
        R"({"version": 1, "tensors": {"a": 4}})", R"({"version": 1, "tensors": {"a": "int9"}})",
        R"({"version": 1, "tensors": {"a": "bf16"}})", R"({"version": 1, "tensors": {"a": "planes5"}})"})
    EXPECT_THROW(quantised_tensors_from_metadata(text), Error) << text;
}

}  // namespace
}  // namespace pleat::test
