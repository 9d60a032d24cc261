// Models as GGUF files (written by the rules of llama.cpp's converter, names and keys by the gguf package's tables, see
// fixtures/make_gguf.py) give the same bits as the Hugging Face folders they came from.
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "core/checkpoint/checkpoint.h"
#include "tests/core/checkpoint/gguf_writer.h"
#include "tests/core/checkpoint/model_folder.h"
#include "tests/core/engine/run.h"

namespace pleat::test {
namespace {

using nlohmann::json;

json models() { return json::parse(std::ifstream(fixture("gguf/models.json"))); }

class GgufModel : public testing::TestWithParam<std::string> {
 protected:
  GgufModel() : hugging_face_(Checkpoint::open(fixture("families/" + GetParam()))) {
    const json model = models()[GetParam()];
    std::vector<GgufBytes::Tensor> tensors;
    for (const auto& [name, source] : model["tensors"].items())
      tensors.push_back(converted(name, source[0], source[1]));
    folder_.write("model.gguf", GgufBytes::file(model["metadata"], tensors));
  }
  std::string gguf() const { return (folder_.path() / "model.gguf").string(); }

  // As the converter does it: rows in another order, norms plus one, matrices turned. All in F32.
  GgufBytes::Tensor converted(const std::string& name, const std::string& source, const std::string& change) const {
    std::vector<int64_t> shape = hugging_face_.require(source).shape;
    const std::vector<float> values = hugging_face_.read_f32(source);
    const int64_t rows = shape[0], cols = int64_t(values.size()) / rows;
    std::vector<float> out = values;
    std::istringstream words(change);
    std::string kind;
    words >> kind;
    const auto move_row = [&](int64_t from, int64_t to) {
      std::copy_n(values.begin() + from * cols, cols, out.begin() + to * cols);
    };
    if (kind == "neighbours") {  // [head][2][half] -> [head][half][2]
      int64_t head;
      words >> head;
      for (int64_t h = 0; h < rows / head; ++h)
        for (int64_t s = 0; s < 2; ++s)
          for (int64_t i = 0; i < head / 2; ++i) move_row(h * head + s * (head / 2) + i, h * head + 2 * i + s);
    } else if (kind == "kinds") {  // [kv head][queries, key, value][size] -> all queries, all keys, all values
      int64_t heads, kv_heads, head, to = 0;
      words >> heads >> kv_heads >> head;
      const int64_t queries = heads / kv_heads;
      for (int part = 0; part < 3; ++part)
        for (int64_t group = 0; group < kv_heads; ++group) {
          const int64_t begin = group * (queries + 2) + (part == 0 ? 0 : queries + part - 1);
          for (int64_t row = 0; row < (part == 0 ? queries : 1) * head; ++row) move_row(begin * head + row, to++);
        }
    } else if (kind == "plus_one") {
      for (float& value : out) value += 1;
    } else if (kind == "transpose") {
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t col = 0; col < cols; ++col) out[size_t(col * rows + row)] = values[size_t(row * cols + col)];
      std::swap(shape[0], shape[1]);
    }
    std::string data(out.size() * sizeof(float), '\0');
    std::memcpy(data.data(), out.data(), data.size());
    return {name, shape, 0, data};
  }

  std::vector<float> logits(const std::string& model, int ranks) const {
    const std::vector<float> golden = hugging_face_.read_f32("golden.tokens");
    const std::vector<int32_t> tokens(golden.begin(), golden.end());
    LoadOptions options;
    options.dtype = WeightFormat::f32;
    std::vector<float> all;
    with_engine(model, ranks, options,
                [&](Engine& engine, Communicator& c) { all = run_tokens(engine, c, tokens, 64, false); });
    return all;
  }

  Checkpoint hugging_face_;
  ModelFolder folder_;
};

TEST_P(GgufModel, HasTheTensorsOfTheHuggingFaceModel) {
  const Checkpoint checkpoint = Checkpoint::open(gguf());
  for (const std::string& name : hugging_face_.names()) {
    if (name.starts_with("golden.")) continue;
    ASSERT_NE(checkpoint.find(name), nullptr) << name;
    if (GetParam() == "gpt2" && name.find(".c_") != std::string::npos && name.ends_with("weight")) continue;  // turned
    EXPECT_EQ(checkpoint.require(name).shape, hugging_face_.require(name).shape) << name;
    const std::vector<float> mine = checkpoint.read_f32(name), theirs = hugging_face_.read_f32(name);
    for (size_t i = 0; i < mine.size(); ++i) ASSERT_NEAR(mine[i], theirs[i], 2e-7) << name << " " << i;
  }
}

TEST_P(GgufModel, GivesTheSameLogitsOnAnyNumberOfRanks) {
  const std::vector<float> one = logits(gguf(), 1);
  EXPECT_EQ(logits(gguf(), 3), one);
  if (GetParam() == "qwen2") return;  // GGUF does not say which of its layers have a window
  const std::vector<float> expected = hugging_face_.read_f32("golden.logits");
  ASSERT_EQ(one.size(), expected.size());
  for (size_t i = 0; i < one.size(); ++i) ASSERT_NEAR(one[i], expected[i], 2e-4);
}

std::vector<std::string> names() {
  std::vector<std::string> names;
  const json all = models();
  for (const auto& [name, _] : all.items()) names.push_back(name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(All, GgufModel, testing::ValuesIn(names()), [](const auto& model) {
  std::string name = model.param;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(uint8_t(c)); }, '_');
  return name;
});

// The real model and Hugging Face's numbers for it.
TEST(GgufSmolLm2, LogitsAreHuggingFacesOnTheSameDequantisedWeights) {
  const char* data = std::getenv("PLEAT_DATA");
  const std::filesystem::path folder =
      (data ? std::filesystem::path(data) : std::filesystem::path(PLEAT_SOURCE_DIR) / "../shared/data") /
      "models/smollm2-135m-instruct";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no " << folder;
  const json golden = json::parse(std::ifstream(folder / "golden.json"));
  const auto ids = golden["first_ids"].get<std::vector<int32_t>>();
  const auto columns = golden["logit_columns"].get<std::vector<size_t>>();
  LoadOptions options;
  options.dtype = WeightFormat::f32;
  options.engine.kv_tokens = 128;
  with_engine((folder / "SmolLM2-135M-Instruct.Q4_1.gguf").string(), 2, options, [&](Engine& engine, Communicator& c) {
    const std::vector<float> logits = run_tokens(engine, c, ids, 64, false);
    const size_t vocab = logits.size() / ids.size();
    for (size_t row = 0; row < ids.size(); ++row) {
      const auto begin = logits.begin() + int64_t(row * vocab);
      EXPECT_EQ(std::max_element(begin, begin + int64_t(vocab)) - begin, golden["argmax"][row].get<int64_t>());
      for (size_t i = 0; i < columns.size(); ++i)
        ASSERT_NEAR(logits[row * vocab + columns[i]], golden["logits"][row][i].get<double>(), 2e-4) << row;
    }
  });
}

}  // namespace
}  // namespace pleat::test
