#include "core/fold/folded_checkpoint.h"

#include <gtest/gtest.h>

#include <fstream>
#include <numeric>

#include "core/checkpoint/safetensors_writer.h"
#include "core/fold/fold.h"
#include "core/fold/layer_ranges.h"
#include "kernels/check.h"
#include "tests/core/fold/random_ffn.h"
#include "tests/temporary_folder.h"

namespace pleat {
namespace {

namespace fs = std::filesystem;
constexpr int64_t kTinyHidden = 64, kTinyNeurons = 160;

void write_file(const fs::path& path, const std::string& text) { std::ofstream(path) << text; }

// A GPT-2 checkpoint of two layers in two shards; only what folding reads and one tensor more.
void write_sharded(const fs::path& folder) {
  fs::create_directories(folder);
  write_file(folder / "config.json",
             R"({"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 32, "n_inner": 160,
                                         "vocab_size": 8, "activation_function": "gelu_new"})");
  write_file(folder / "tokenizer.json", "{}");
  nlohmann::json index;
  for (int layer = 0; layer < 2; ++layer) {
    const std::string file = "model-" + std::to_string(layer) + ".safetensors",
                      block = "h." + std::to_string(layer) + ".mlp.";
    SafetensorsWriter out(folder / file);
    const std::vector<std::pair<std::string, std::vector<int64_t>>> tensors = {
        {block + "c_fc.weight", {kTinyHidden, kTinyNeurons}},
        {block + "c_fc.bias", {kTinyNeurons}},
        {block + "c_proj.weight", {kTinyNeurons, kTinyHidden}},
        {block + "c_proj.bias", {kTinyHidden}}};
    for (const auto& [name, shape] : tensors) {
      out.add(name, DType::f32, shape);
      index["weight_map"][name] = file;
    }
    if (layer == 0) {
      out.add("wte.weight", DType::f32, {8, kTinyHidden});
      index["weight_map"]["wte.weight"] = file;
    }
    out.begin();
    uint64_t seed = uint64_t(layer) * 10;
    const auto write = [&](const std::string& name, int64_t count) {
      out.write(name, random_table(1, count, 1, ++seed).data.data(), size_t(count) * 4);
    };
    for (const auto& [name, shape] : tensors)
      write(name, std::accumulate(shape.begin(), shape.end(), int64_t(1), std::multiplies<>()));
    if (layer == 0) write("wte.weight", 8 * kTinyHidden);
    out.finish();
  }
  write_file(folder / "model.safetensors.index.json", index.dump());
}

std::vector<BuiltLayer> folded_layers(Context& ctx, const Checkpoint& dense, const Blueprint& blueprint,
                                      WeightFormat format) {
  std::vector<BuiltLayer> out;
  for (int layer = 0; layer < 2; ++layer) {
    const FfnTensors ffn = read_ffn(dense, blueprint, layer);
    LayerFold fold;
    fold.slope = random_table(1, kTinyNeurons, 1, 31).data;
    fold.intercept = random_table(1, kTinyNeurons, 1, 32).data;
    fold.low = random_table(1, kTinyNeurons, 1, 33).data;
    fold.high = random_table(1, kTinyNeurons, 1, 34).data;
    fold.predictor = gptq(ctx, ffn.up.view(), {}, 2);
    fold.fold = store_fold(ctx, fold_weight(ctx, ffn, fold), format);
    fold.bias = fold_bias(ffn, fold);
    std::vector<int32_t> order;
    for (int32_t n = 0; n < kTinyNeurons; ++n) order.push_back((n * 7 + layer) % kTinyNeurons);
    fold.spec.fold_format = format;
    out.push_back({reordered(fold, order), {}, order, kTinyNeurons});
  }
  return out;
}

template <class T>
std::vector<T> read_all(const Checkpoint& checkpoint, const std::string& name) {
  const TensorInfo& info = checkpoint.require(name);
  const int64_t rows = info.shape.size() < 2 ? 1 : info.shape[0], cols = info.shape.back();
  std::vector<T> out(size_t(rows * cols));
  checkpoint.read(name, 0, rows, 0, cols, out.data());
  return out;
}

std::vector<uint16_t> bits_of(const std::vector<bf16>& values) {
  std::vector<uint16_t> out;
  for (const bf16 value : values) out.push_back(value.bits);
  return out;
}

TEST(FoldedCheckpoint, ReadsBackWhatWasFoldedAndTheSameDenseFunction) {
  for (const WeightFormat format : {WeightFormat::int8, WeightFormat::bf16}) {
    const test::TemporaryFolder folder;
    write_sharded(folder / "dense");
    fs::create_directories(folder / "folded");
    const Checkpoint dense = Checkpoint::open(folder / "dense");
    const Blueprint blueprint = read_blueprint(dense);
    Context ctx(1, false);
    const auto layers = folded_layers(ctx, dense, blueprint, format);
    write_folded_checkpoint(dense, blueprint, 0.75, layers, folder / "folded");

    const Checkpoint folded = Checkpoint::open(folder / "folded");
    const Blueprint read = read_blueprint(folded);
    ASSERT_TRUE(read.fold.has_value());
    EXPECT_EQ(read.fold->layers[1].fold_format, format);
    EXPECT_EQ(read.fold->reduction, 0.75);
    EXPECT_TRUE(fs::exists(folder / "folded" / "tokenizer.json"));
    EXPECT_FALSE(fs::exists(folder / "folded" / "model.safetensors.index.json"));
    EXPECT_EQ(folded.read_f32("wte.weight"), dense.read_f32("wte.weight"));
    for (int layer = 0; layer < 2; ++layer) {
      const LayerFold& fold = layers[size_t(layer)].fold;
      const std::vector<int32_t>& order = layers[size_t(layer)].neurons;
      const FfnTensors expected = reordered(read_ffn(dense, blueprint, layer), order),
                       ffn = read_ffn(folded, read, layer);
      EXPECT_EQ(ffn.up.data, expected.up.data);
      EXPECT_EQ(ffn.up_bias, expected.up_bias);
      EXPECT_EQ(ffn.down.data, expected.down.data);
      EXPECT_EQ(ffn.down_bias, expected.down_bias);
      const auto name = [&](const char* tensor) { return FoldSpec::name(layer, tensor); };
      if (format == WeightFormat::int8) {
        EXPECT_EQ(read_all<uint8_t>(folded, name("fold.codes")), fold.fold.rows.codes);
        EXPECT_EQ(read_all<uint16_t>(folded, name("fold.scale")), bits_of(fold.fold.rows.scale));
      } else {
        EXPECT_EQ(read_all<uint16_t>(folded, name("fold.weight")), bits_of(fold.fold.weight));
      }
      EXPECT_EQ(folded.read_f32(name("fold.bias")), fold.bias);
      EXPECT_EQ(read_all<uint8_t>(folded, name("predictor.codes")), fold.predictor.codes);
      EXPECT_EQ(read_all<uint16_t>(folded, name("predictor.scale")), bits_of(fold.predictor.scale));
      EXPECT_EQ(read_all<uint16_t>(folded, name("predictor.minimum")), bits_of(fold.predictor.minimum));
      EXPECT_EQ(folded.read_f32(name("range.low")), fold.low);
      EXPECT_EQ(folded.read_f32(name("range.high")), fold.high);
      EXPECT_EQ(folded.read_f32(name("slope")), fold.slope);
      EXPECT_EQ(folded.read_f32(name("intercept")), fold.intercept);
    }
  }
}

TEST(FoldedCheckpoint, AFolderAppearsOnlyWhenCommitted) {
  const test::TemporaryFolder folder;
  const fs::path out = folder / "new";
  {
    FolderInTheMaking making(out);
    write_file(making.folder() / "file", "text");
  }
  EXPECT_TRUE(fs::is_empty(folder.path()));
  fs::create_directories(out);  // an empty folder may stand there already
  {
    FolderInTheMaking making(out);
    write_file(making.folder() / "file", "text");
    making.commit();
  }
  EXPECT_TRUE(fs::exists(out / "file"));
  EXPECT_THROW(FolderInTheMaking{out}, Error);
}

TEST(FoldedCheckpoint, AFolderThatCannotBeReplacedIsRefusedBeforeTheWorkAndKeptAfterIt) {
  const test::TemporaryFolder folder;
  fs::create_directory_symlink(folder / "nowhere", folder / "link");
  EXPECT_THROW(FolderInTheMaking{folder / "link"}, Error);

  fs::path kept;
  {
    FolderInTheMaking making(folder / "new");
    kept = making.folder();
    write_file(kept / "file", "text");
    fs::create_directory(folder / "new");
    write_file(folder / "new" / "another's", "text");
    try {
      making.commit();
      FAIL() << "another's folder was replaced";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(kept.string()), std::string::npos) << error.what();
    }
  }
  EXPECT_TRUE(fs::exists(kept / "file"));
}

std::string message_of(const FoldOptions& options) {
  try {
    fold_model(options);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid);
    return error.what();
  }
  return "";
}

TEST(FoldedCheckpoint, AReductionThatIsNoShareIsRefused) {
  FoldSpec spec;
  spec.layers.resize(1);
  for (const double share : {0.5, -0.2, 1.0}) {
    spec.reduction = share;
    EXPECT_EQ(fold_spec_from_metadata(to_metadata(spec)).reduction, share);
  }
  for (const double share : {-1e300, 11.0, 1e300}) {
    spec.reduction = share;
    EXPECT_THROW(fold_spec_from_metadata(to_metadata(spec)), Error) << share;
  }
}

TEST(FoldModel, RefusesInOneSentenceWhatItCannotDo) {
  const test::TemporaryFolder folder;
  FoldOptions options;
  options.model = PLEAT_SOURCE_DIR "/models/pleat-gpt2-9m";
  options.text = PLEAT_SOURCE_DIR "/examples/calibration.txt";
  options.out = folder / "folded";
  options.oversubscribed = true;

  FoldOptions impossible = options;
  impossible.reduction = 0.9;
  EXPECT_EQ(message_of(impossible),
            "a reduction of 0.9 cannot be reached: the fold and its 2-bit predictor leave at most 0.847");
  impossible.reduction = 0;
  EXPECT_EQ(message_of(impossible), "the reduction is a share between 0 and 1, not 0");
  impossible.reduction = 0.5;
  impossible.selection = SelectionKind::all;
  EXPECT_EQ(message_of(impossible), "a reduction is asked for, but selection all computes every neuron");
  impossible = options;
  impossible.budget = 0.02;
  EXPECT_NE(message_of(impossible).find("a budget of 2% cannot be kept: no recipe is below "), std::string::npos);
  impossible = options;
  impossible.text = folder.path();
  EXPECT_NE(message_of(impossible).find("it is a folder"), std::string::npos);

  FoldOptions occupied = options;
  fs::create_directories(folder / "folded");
  write_file(folder / "folded" / "file", "text");
  EXPECT_NE(message_of(occupied).find("is already there and not an empty folder"), std::string::npos);
  fs::remove_all(folder / "folded");

  FoldOptions no_text = options;
  no_text.text = folder / "absent.txt";
  EXPECT_NE(message_of(no_text).find("cannot read '" + no_text.text + "'"), std::string::npos);

  FoldOptions short_text = options;
  write_file(folder / "short.txt", "Not enough to know how often a neuron leaves its range.");
  short_text.text = folder / "short.txt";
  EXPECT_NE(message_of(short_text).find("at least 1024"), std::string::npos);
  EXPECT_FALSE(fs::exists(folder / "folded"));
}

}  // namespace
}  // namespace pleat
