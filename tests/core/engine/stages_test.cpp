// Every stage of a block against an author's own intermediate values (fixtures/llm-viz-nano-sort).
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "tests/core/engine/run.h"

namespace pleat::test {
namespace {

struct Named {
  std::vector<int64_t> shape;
  std::vector<float> values;
};

std::map<std::string, Named> read_partials() {
  std::ifstream file(fixture("llm-viz-nano-sort/partials.safetensors"), std::ios::binary);
  uint64_t size = 0;
  file.read(reinterpret_cast<char*>(&size), 8);
  std::string text(size, ' ');
  file.read(text.data(), std::streamsize(size));
  const std::string body((std::istreambuf_iterator<char>(file)), {});
  std::map<std::string, Named> partials;
  const nlohmann::json header = nlohmann::json::parse(text);
  for (const auto& [name, entry] : header.items()) {
    const size_t begin = entry["data_offsets"][0], end = entry["data_offsets"][1];
    Named& named = partials[name];
    named.shape = entry["shape"].get<std::vector<int64_t>>();
    named.values.resize((end - begin) / 4);
    std::memcpy(named.values.data(), body.data() + begin, end - begin);
  }
  return partials;
}

class Recorder : public StageObserver {
 public:
  void stage(const char* name, int layer, MatrixView<const float> value) override {
    std::vector<float>& copy = seen[{name, layer}];
    for (int64_t row = 0; row < value.rows; ++row) copy.insert(copy.end(), value[row], value[row] + value.cols);
  }
  std::map<std::pair<std::string, int>, std::vector<float>> seen;
};

// [tokens, heads * size] to [heads, tokens, size]
std::vector<float> by_head(const std::vector<float>& rows, size_t tokens, size_t heads, size_t size) {
  std::vector<float> out(rows.size());
  for (size_t t = 0; t < tokens; ++t)
    for (size_t h = 0; h < heads; ++h)
      for (size_t i = 0; i < size; ++i) out[(h * tokens + t) * size + i] = rows[(t * heads + h) * size + i];
  return out;
}

double worst(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return INFINITY;
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(double(a[i]) - b[i]));
  return most;
}

TEST(Stages, EveryStageOfBlockZeroIsTheAuthors) {
  auto expected = read_partials();
  std::vector<int32_t> tokens;
  for (float id : expected["idx"].values) tokens.push_back(int32_t(id));
  const size_t T = tokens.size(), heads = 3, size = 16;
  ASSERT_EQ(T, 11u);

  Recorder recorder;
  std::vector<float> logits;
  LoadOptions options;
  options.dtype = WeightFormat::f32;
  with_engine(fixture("llm-viz-nano-sort"), 1, options, [&](Engine& engine, Communicator& c) {
    engine.set_observer(&recorder);
    logits = run_tokens(engine, c, tokens, 11, false);
  });

  const auto seen = [&](const char* name, int layer) { return recorder.seen.at({name, layer}); };
  EXPECT_LE(worst(seen("x", -1), expected["x"].values), 1e-5);
  for (const char* name : {"ln1", "y", "attnResid", "ln2", "fc", "gelu", "mlpResid"})
    EXPECT_LE(worst(seen(name, 0), expected[name].values), 1e-5) << name;
  const std::vector<float> q = by_head(seen("q", 0), T, heads, size), k = by_head(seen("k", 0), T, heads, size);
  EXPECT_LE(worst(q, expected["q"].values), 1e-5);
  EXPECT_LE(worst(k, expected["k"].values), 1e-5);
  EXPECT_LE(worst(by_head(seen("v", 0), T, heads, size), expected["v"].values), 1e-5);
  // The kernel never stores scores and probabilities; here they follow from its own q and k.
  for (size_t h = 0; h < heads; ++h)
    for (size_t t = 0; t < T; ++t) {
      std::vector<double> scores(T, 0.0);
      double sum = 0;
      for (size_t u = 0; u <= t; ++u) {
        for (size_t i = 0; i < size; ++i)
          scores[u] += double(q[(h * T + t) * size + i]) * k[(h * T + u) * size + i] / 4.0;
        EXPECT_NEAR(scores[u], expected["att"].values[(h * T + t) * T + u], 1e-5);
        sum += std::exp(scores[u]);
      }
      for (size_t u = 0; u <= t; ++u)
        EXPECT_NEAR(std::exp(scores[u]) / sum, expected["attSm"].values[(h * T + t) * T + u], 1e-5);
    }
  // Later blocks carry block 0's rounding on.
  EXPECT_LE(worst(seen("mlpResid", 1), expected["block1"].values), 1e-4);
  EXPECT_LE(worst(seen("mlpResid", 2), expected["block2"].values), 1e-4);
  EXPECT_LE(worst(seen("ln_f", -1), expected["ln_f"].values), 1e-4);
  EXPECT_LE(worst(logits, expected["lm_head"].values), 1e-4);
}

}  // namespace
}  // namespace pleat::test
