// The embedded model, folded from the example text and evaluated on held-out text through the engine's decode path.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <nlohmann/json.hpp>

#include "core/checkpoint/checkpoint.h"
#include "core/engine/scoring.h"
#include "core/fold/ffn_tensors.h"
#include "core/fold/fold.h"
#include "core/text/tokenizer.h"
#include "parallel/self_communicator.h"
#include "tests/temporary_folder.h"

namespace pleat {
namespace {

namespace fs = std::filesystem;
const std::string kModel = PLEAT_SOURCE_DIR "/models/pleat-gpt2-9m";
constexpr int64_t kTokens = 4096;

std::string file_text(const fs::path& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return std::move(out).str();
}

struct Evaluation {
  double perplexity = 0;
  EngineStatistics statistics;
};

Evaluation evaluate(const std::string& folder, std::span<const int32_t> tokens) {
  SelfCommunicator communicator;
  LoadOptions options;
  options.threads = 2;
  options.oversubscribed = true;
  options.engine.kv_tokens = 512;
  LoadedModel model = load_model(folder, communicator, options);
  ScoringOptions scoring;
  scoring.max_tokens = kTokens;
  double loss = 0;
  int64_t count = 0;
  score(*model.engine, communicator, tokens, scoring, [&](int64_t index, std::span<const float> logits) {
    double sum = 0;
    for (const float logit : logits) sum += std::exp(double(logit));
    loss += std::log(sum) - logits[size_t(tokens[size_t(index) + 1])];
    ++count;
  });
  return {std::exp(loss / double(count)), model.engine->statistics()};
}

// The no-fold control: in a folder's safetensors file C and the lines become 0 and B becomes b2, so the same exact
// neurons are computed and the rest is dropped.
void drop_the_fold(const fs::path& folder) {
  const Checkpoint checkpoint = Checkpoint::open(folder);
  const Blueprint blueprint = read_blueprint(checkpoint);
  std::fstream file(folder / "model.safetensors", std::ios::binary | std::ios::in | std::ios::out);
  uint64_t header_bytes = 0;
  file.read(reinterpret_cast<char*>(&header_bytes), 8);
  std::string header(header_bytes, ' ');
  file.read(header.data(), std::streamsize(header_bytes));
  const nlohmann::json tensors = nlohmann::json::parse(header);
  const auto overwrite = [&](const std::string& name, std::string bytes) {
    const uint64_t begin = tensors.at(name)["data_offsets"][0], end = tensors.at(name)["data_offsets"][1];
    bytes.resize(end - begin);
    file.seekp(std::streamoff(8 + header_bytes + begin));
    file.write(bytes.data(), std::streamsize(bytes.size()));
  };
  for (int layer = 0; layer < blueprint.layers; ++layer) {
    for (const char* tensor : {"fold.codes", "slope", "intercept"}) overwrite(FoldSpec::name(layer, tensor), "");
    const std::vector<float> bias = read_ffn(checkpoint, blueprint, layer).down_bias;
    overwrite(FoldSpec::name(layer, "fold.bias"),
              std::string(reinterpret_cast<const char*>(bias.data()), bias.size() * sizeof(float)));
  }
}

TEST(FoldQuality, AQuarterOfTheBytesStaysWithinTwoPercentOfDenseAndTheFoldIsWhatDoesIt) {
  const test::TemporaryFolder scratch;
  const fs::path out = scratch / "folded";
  FoldOptions options;
  options.model = kModel;
  options.text = PLEAT_SOURCE_DIR "/examples/calibration.txt";
  options.out = out;
  options.reduction = 0.75;
  options.max_tokens = 16384;
  options.threads = 2;
  options.oversubscribed = true;
  const FoldReport report = fold_model(options);
  EXPECT_NEAR(report.reduction, 0.75, 0.005);
  EXPECT_NEAR(report.total.fallback, 0.097, 0.005);
  EXPECT_GT(report.total.recall, 0.8);
  EXPECT_GT(report.total.precision, 0.8);
  EXPECT_EQ(file_text(out / "fold_report.json"), to_json(report).dump(1) + "\n");

  const std::vector<int32_t> tokens =
      Tokenizer::open(kModel).encode(file_text(PLEAT_SOURCE_DIR "/examples/heldout.txt"));
  const Evaluation dense = evaluate(kModel, tokens), folded = evaluate(out, tokens);
  drop_the_fold(out);
  const Evaluation dropped = evaluate(out, tokens);

  EXPECT_LT(folded.perplexity, 1.02 * dense.perplexity);
  EXPECT_GT(dropped.perplexity - dense.perplexity, 10 * (folded.perplexity - dense.perplexity));
  const int64_t sets = folded.statistics.folded_rows * 6 * 1280;
  int64_t exact = 0;
  for (const int64_t count : folded.statistics.fallback) exact += count;
  EXPECT_NEAR(double(exact) / double(sets), report.total.fallback,
              0.01);  // held-out text asks for as much as was calibrated
  std::cout << "perplexity dense " << dense.perplexity << ", folded " << folded.perplexity << ", dropped "
            << dropped.perplexity << "; fold took " << report.seconds << " s\n"
            << to_text(report);
}

}  // namespace
}  // namespace pleat
