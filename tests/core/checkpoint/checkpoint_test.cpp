#include "core/checkpoint/checkpoint.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "kernels/check.h"
#include "tests/core/checkpoint/model_folder.h"

namespace pleat {
namespace {

using nlohmann::json;

json entry(const std::string& dtype, const std::vector<uint64_t>& shape, uint64_t begin, uint64_t end) {
  return {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {begin, end}}};
}

// The message of the Error(invalid) that opening gives; anything else fails the test.
std::string refusal(const ModelFolder& folder) {
  try {
    Checkpoint::open(folder.path());
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "opened";
  return "";
}

std::string refusal_of_header(const std::string& header, size_t data_bytes) {
  ModelFolder folder;
  folder.write("model.safetensors", safetensors_bytes(header, std::string(data_bytes, 'x')));
  return refusal(folder);
}

void expect_mentions(const std::string& message, const std::string& part) {
  EXPECT_NE(message.find(part), std::string::npos) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
}

TEST(Checkpoint, ReadsShapesDtypesAndMetadataOfAFile) {
  ModelFolder folder;
  const json header = {{"__metadata__", {{"format", "pt"}}},
                       {"mask", entry("BOOL", {2, 1}, 0, 2)},
                       {"none", entry("F32", {0, 7}, 2, 2)},
                       {"scalar", entry("I8", {}, 2, 3)},
                       {"w", entry("BF16", {2, 3}, 3, 15)}};
  folder.write("model.safetensors", safetensors_bytes(header.dump() + "   ", std::string(15, '\1')));
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  EXPECT_EQ(checkpoint.metadata(), json({{"format", "pt"}}));
  EXPECT_EQ(checkpoint.config()["model_type"], "gpt2");
  EXPECT_EQ(checkpoint.names(), (std::vector<std::string>{"none", "scalar", "w"}));
  EXPECT_EQ(checkpoint.find("nobody"), nullptr);
  EXPECT_EQ(checkpoint.find("mask"), nullptr);
  EXPECT_EQ(checkpoint.require("w").dtype, DType::bf16);
  EXPECT_EQ(checkpoint.require("w", {2, 3}).shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(checkpoint.read_f32("none").size(), 0u);
}

TEST(Checkpoint, NamesTheTensorThatIsMissingOrHasAnotherShape) {
  ModelFolder folder;
  folder.write(
      "model.safetensors",
      safetensors_bytes(json{{"x", entry("I8", {2, 3}, 0, 6)}, {"m", entry("BOOL", {1}, 6, 7)}}.dump(), "abcdefg"));
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  const auto message = [](auto&& f) {
    try {
      f();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::invalid);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_EQ(message([&] { checkpoint.require("x", {3, 2}); }), "tensor 'x' is [2, 3], expected [3, 2]");
  expect_mentions(message([&] { checkpoint.require("y"); }), "tensor 'y' is not in");
  expect_mentions(message([&] { checkpoint.require("m"); }), "tensor 'm'");
  expect_mentions(message([&] { checkpoint.require("m"); }), "BOOL");
  expect_mentions(message([&] { checkpoint.read_f32("x"); }), "expected F32, F16 or BF16");
}

TEST(Checkpoint, ReadsAnySliceOfAnyDtypeAsAWholeReadWouldShowIt) {
  std::mt19937_64 random(1);
  for (const auto& [name, element] : {std::pair{"F32", 4}, {"F16", 2}, {"BF16", 2}, {"U8", 1}, {"I64", 8}}) {
    for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{37, 1280}, {1, 500}, {300, 9}, {5, 1}}) {
      std::string data(size_t(rows * cols * element), '\0');
      for (char& byte : data) byte = char(random());
      ModelFolder folder;
      const json header = {{"lead", entry("I8", {3}, 0, 3)},
                           {"w", entry(name, {uint64_t(rows), uint64_t(cols)}, 3, 3 + data.size())}};
      folder.write("model.safetensors", safetensors_bytes(header.dump(), "abc" + data));
      const Checkpoint checkpoint = Checkpoint::open(folder.path());
      for (int trial = 0; trial < 40; ++trial) {
        int64_t row[2] = {int64_t(random() % (rows + 1)), int64_t(random() % (rows + 1))};
        int64_t col[2] = {int64_t(random() % (cols + 1)), int64_t(random() % (cols + 1))};
        if (trial % 4 == 0) col[0] = int64_t(random() % (1 + cols / 20)), col[1] = cols;  // narrow gaps
        if (row[0] > row[1]) std::swap(row[0], row[1]);
        if (col[0] > col[1]) std::swap(col[0], col[1]);
        std::string expected;
        for (int64_t r = row[0]; r < row[1]; ++r) {
          expected += data.substr(size_t((r * cols + col[0]) * element), size_t((col[1] - col[0]) * element));
        }
        std::string got(expected.size(), '?');
        const int64_t before = checkpoint.bytes_read();
        checkpoint.read("w", row[0], row[1], col[0], col[1], got.data());
        EXPECT_EQ(got, expected);
        const int64_t width = (col[1] - col[0]) * element;
        const int64_t allowed = (row[1] - row[0]) * (width + std::max<int64_t>(width / 10, 64));
        EXPECT_LE(checkpoint.bytes_read() - before, width == 0 ? 0 : allowed);
      }
    }
  }
}

TEST(Checkpoint, CountsExactlyTheBytesOfAWideSlice) {
  ModelFolder folder;
  const json header = {{"w", entry("BF16", {320, 1280}, 0, 320 * 1280 * 2)}};
  folder.write("model.safetensors", safetensors_bytes(header.dump(), std::string(320 * 1280 * 2, 'x')));
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  std::string out(320 * 182 * 2, '\0');
  checkpoint.read("w", 0, 320, 546, 728, out.data());
  EXPECT_EQ(checkpoint.bytes_read(), 320 * 182 * 2);
}

TEST(Checkpoint, ConvertsHalfPrecisionAsItsFormatsDefine) {
  // 1.0, -2.0, the smallest subnormal, the largest number.
  const uint16_t f16_bits[] = {0x3c00, 0xc000, 0x0001, 0x7bff};
  const uint16_t bf16_bits[] = {0x3f80, 0xc000, 0x0001, 0x7f7f};
  std::string data(16, '\0');
  std::memcpy(data.data(), f16_bits, 8);
  std::memcpy(data.data() + 8, bf16_bits, 8);
  ModelFolder folder;
  folder.write(
      "model.safetensors",
      safetensors_bytes(json{{"h", entry("F16", {2, 2}, 0, 8)}, {"b", entry("BF16", {4}, 8, 16)}}.dump(), data));
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  EXPECT_EQ(checkpoint.read_f32("h"), (std::vector<float>{1.0f, -2.0f, std::ldexp(1.0f, -24), 65504.0f}));
  EXPECT_EQ(checkpoint.read_f32("b"),
            (std::vector<float>{1.0f, -2.0f, std::ldexp(1.0f, -133), std::ldexp(255.0f / 128.0f, 127)}));
}

TEST(Checkpoint, ReadsTheEmbeddedModel) {
  const Checkpoint checkpoint = Checkpoint::open(PLEAT_SOURCE_DIR "/models/pleat-gpt2-9m");
  EXPECT_EQ(checkpoint.config()["n_embd"], 320);
  const std::string prefix = checkpoint.find("wte.weight") ? "" : "transformer.";
  checkpoint.require(prefix + "wte.weight", {4096, 320});
  checkpoint.require(prefix + "h.5.mlp.c_fc.weight", {320, 1280});
  double sum = 0;
  for (const float value : checkpoint.read_f32(prefix + "ln_f.weight")) sum += value;
  EXPECT_TRUE(std::isfinite(sum));
  EXPECT_NE(sum, 0);
}

TEST(Checkpoint, RefusesLyingSizes) {
  const uint64_t huge = uint64_t(1) << 63;
  const auto one = [](json description) { return json{{"a", std::move(description)}}.dump(); };
  expect_mentions(refusal_of_header(one(entry("F32", {huge}, 0, 4)), 4), "shape");
  expect_mentions(refusal_of_header(one(entry("F32", {uint64_t(1) << 62}, 0, 0)), 0), "too large");
  expect_mentions(refusal_of_header(one(entry("F32", {uint64_t(1) << 31, uint64_t(1) << 31}, 0, 0)), 0), "too large");
  expect_mentions(refusal_of_header(one(entry("F32", {0, uint64_t(1) << 62}, 0, 0)), 0), "too large");
  expect_mentions(refusal_of_header(one(entry("F32", {2}, huge, huge + 8)), 8), "data_offsets");
  expect_mentions(refusal_of_header(one(entry("F32", {2}, 8, 0)), 8), "data_offsets");
  expect_mentions(refusal_of_header(one(entry("F32", {3}, 0, 8)), 8), "say 12");
  expect_mentions(refusal_of_header(one(entry("F99", {2}, 0, 8)), 8), "F99");
  expect_mentions(refusal_of_header(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4), "shape");
  expect_mentions(refusal_of_header(R"({"a":{"dtype":"F32","shape":[1e0],"data_offsets":[0,4]}})", 4), "shape");
  expect_mentions(refusal_of_header(R"({"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,4]}})", 4), "JSON");
  expect_mentions(refusal_of_header(one(entry("I8", {1, 1, 1, 1, 1, 1, 1, 1, 1}, 0, 1)), 1), "shape");
}

TEST(Checkpoint, RefusesOverlapsHolesAndBytesThatBelongToNobody) {
  const auto two = [](uint64_t begin) {
    return json{{"a", entry("I8", {8}, 0, 8)}, {"b", entry("I8", {8}, begin, begin + 8)}}.dump();
  };
  expect_mentions(refusal_of_header(two(4), 12), "overlaps");
  expect_mentions(refusal_of_header(two(0), 8), "overlaps");
  expect_mentions(refusal_of_header(two(9), 17), "unused bytes before tensor 'b'");
  expect_mentions(refusal_of_header(two(8), 17), "1 unused bytes at its end");
}

TEST(Checkpoint, RefusesRepeatedNamesDeepNestingAndWhatIsNoHeader) {
  const std::string a = R"("a":{"dtype":"I8","shape":[4],"data_offsets":[0,4]})";
  expect_mentions(refusal_of_header("{" + a + "," + a + "}", 4), "'a' stands there twice");
  expect_mentions(refusal_of_header(std::string(50000, '['), 0), "nested");
  expect_mentions(refusal_of_header(R"({"a":)", 0), "not valid JSON");
  expect_mentions(refusal_of_header("[]", 0), "no JSON object");
  expect_mentions(refusal_of_header(R"({"a":3})", 0), "description");
  expect_mentions(refusal_of_header(R"({"__metadata__":{"k":1}})", 0), "not a string");
  ModelFolder folder;
  folder.write("model.safetensors", std::string("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10));
  expect_mentions(refusal(folder), "not a safetensors file");
}

TEST(Checkpoint, SaysThatAFileIsTruncated) {
  ModelFolder folder;
  const std::string whole = safetensors_bytes(json{{"a", entry("F32", {100}, 0, 400)}}.dump(), std::string(400, 'x'));
  folder.write("model.safetensors", whole.substr(0, whole.size() - 1));
  expect_mentions(refusal(folder), concat("model.safetensors\" is truncated: header says ", whole.size(),
                                          " bytes, file has ", whole.size() - 1));
}

TEST(Checkpoint, RefusesAFileCutAnywhere) {
  json header;
  uint64_t offset = 0;
  for (int i = 0; i < 20; ++i) {
    header[concat("t", i)] = entry("F16", {uint64_t(i), 5}, offset, offset + uint64_t(i) * 10);
    offset += uint64_t(i) * 10;
  }
  const std::string whole = safetensors_bytes(header.dump(), std::string(offset, 'x'));
  std::mt19937_64 random(2);
  for (int trial = 0; trial < 300; ++trial) {
    ModelFolder folder;
    folder.write("model.safetensors", whole.substr(0, trial < 20 ? size_t(trial) : random() % whole.size()));
    expect_mentions(refusal(folder), "model.safetensors");
  }
}

TEST(Checkpoint, SurvivesAnyDamageToTheHeader) {
  const std::string header = json{
      {"__metadata__", {{"format", "pt"}}},
      {"a", entry("F32", {10, 10}, 0, 400)},
      {"b", entry("I8", {7}, 400,
                  407)}}.dump();
  std::mt19937_64 random(3);
  for (int trial = 0; trial < 500; ++trial) {
    std::string bytes = safetensors_bytes(header, std::string(407, 'x'));
    for (uint64_t i = 0; i <= random() % 4; ++i) bytes[random() % (8 + header.size())] = char(random());
    ModelFolder folder;
    folder.write("model.safetensors", bytes);
    try {
      const Checkpoint checkpoint = Checkpoint::open(folder.path());
      for (const std::string& name : checkpoint.names()) {
        if (checkpoint.require(name).dtype == DType::f32) checkpoint.read_f32(name);
      }
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::invalid) << error.what();
    }
  }
}

class ShardedCheckpoint : public testing::Test {
 protected:
  void SetUp() override {
    folder.write("one.safetensors",
                 safetensors_bytes(json{{"a", entry("I8", {3}, 0, 3)}, {"b", entry("I8", {2}, 3, 5)}}.dump(), "abcde"));
    folder.write("two.safetensors", safetensors_bytes(json{{"c", entry("I8", {2, 2}, 0, 4)}}.dump(), "wxyz"));
  }
  void write_index(const json& weight_map) {
    folder.write("model.safetensors.index.json",
                 json{{"metadata", {{"total_size", 9}}}, {"weight_map", weight_map}}.dump());
  }
  ModelFolder folder;
};

TEST_F(ShardedCheckpoint, ReadsEachTensorFromItsShard) {
  write_index({{"a", "one.safetensors"}, {"b", "one.safetensors"}, {"c", "two.safetensors"}});
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  EXPECT_EQ(checkpoint.names(), (std::vector<std::string>{"a", "b", "c"}));
  std::string out(2, '?');
  checkpoint.read("c", 0, 2, 1, 2, out.data());
  EXPECT_EQ(out, "xz");
  checkpoint.read("b", 0, 1, 0, 2, out.data());
  EXPECT_EQ(out, "de");
}

TEST_F(ShardedCheckpoint, RefusesAnIndexThatDoesNotMatchItsShards) {
  write_index({{"a", "one.safetensors"}, {"c", "three.safetensors"}});
  expect_mentions(refusal(folder), "names 'three.safetensors', which is not there");
  write_index({{"a", "one.safetensors"}, {"b", "two.safetensors"}});
  expect_mentions(refusal(folder), "tensor 'b' is in 'two.safetensors', which does not have it");
  write_index({{"a", "../one.safetensors"}});
  expect_mentions(refusal(folder), "'../one.safetensors' is not the name of a file in this folder");
  write_index({{"a", 1}});
  expect_mentions(refusal(folder), "no file name");
  folder.write("model.safetensors.index.json", "{}");
  expect_mentions(refusal(folder), "weight_map");
}

TEST(Checkpoint, SaysWhatAFolderLacks) {
  ModelFolder folder;
  expect_mentions(refusal(folder), "has neither model.safetensors nor model.safetensors.index.json");
  folder.write("config.json", "{\"n_embd\": 3,");
  expect_mentions(refusal(folder), "config.json\" is not valid JSON");
  folder.write("config.json", "[1]");
  expect_mentions(refusal(folder), "no JSON object");
  EXPECT_THROW(Checkpoint::open("/no/such/folder"), Error);
}

}  // namespace
}  // namespace pleat
