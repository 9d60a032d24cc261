// Quantised models in the engine, against the same numbers in floats, for every family.
#include <algorithm>

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/safetensors_writer.h"
#include "core/model/blueprint.h"
#include "tests/core/engine/run.h"
#include "tests/core/fold/quantised_models.h"

namespace pleat::test {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> families() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(fixture("families")))
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

// Bit b of code i of a row of codes.
unsigned bit_of(const uint8_t* row, int64_t i, int bits, int b) {
  const int64_t bit = i * bits + b;
  return row[bit / 8] >> (bit % 8) & 1;
}

template <class T>
std::vector<T> bytes_of(const Checkpoint& checkpoint, const std::string& name) {
  const std::vector<int64_t> shape = checkpoint.require(name).shape;
  std::vector<T> out(size_t(shape[0] * shape[1]));
  checkpoint.read(name, 0, shape[0], 0, shape[1], out.data());
  return out;
}

// Tensor `name` [outputs, inputs] as its signs, scales and exponents say: 2^e times the sum of scales and signs.
std::vector<float> dequantised_planes(const Checkpoint& checkpoint, const std::string& name, int planes) {
  const std::vector<int64_t> shape = checkpoint.require(name + ".codes").shape;
  const bool by_column = checkpoint.find(name + ".column_scales") != nullptr;
  const std::string scale_name = name + (by_column ? ".column_scales" : ".block_scales");
  const std::vector<uint8_t> codes = bytes_of<uint8_t>(checkpoint, name + ".codes"),
                             scales = bytes_of<uint8_t>(checkpoint, scale_name);
  const std::vector<int8_t> exponents = bytes_of<int8_t>(checkpoint, name + ".exponents");
  const int64_t scale_row = checkpoint.require(scale_name).shape[1],
                groups = checkpoint.require(name + ".exponents").shape[1];
  const int64_t inputs = shape[1] * 8 / planes;  // enough of them: the rest is cut off by the caller
  std::vector<float> out;
  for (int64_t n = 0; n < shape[0]; ++n)
    for (int64_t i = 0; i < inputs; ++i) {
      const int64_t table = std::min(by_column ? i : i / 8, scale_row / planes - 1);
      int sum = 0;
      for (int p = 0; p < planes; ++p) {
        const int byte = scales[size_t(n / (by_column ? 64 : 8) * scale_row + table * planes + p)];
        const int scale = (1 << byte % 8) + (byte & 64 ? -1 : 1) * (1 << byte / 8 % 8);
        sum += bit_of(&codes[size_t(n * shape[1])], i, planes, p) ? scale : -scale;
      }
      out.push_back(std::ldexp(float(sum), exponents[size_t(n / 64 * groups + std::min(i / 64, groups - 1))]));
    }
  return out;
}

// Tensor `name` [outputs, inputs] as its codes, scales and minimums say.
std::vector<float> dequantised(const Checkpoint& checkpoint, const std::string& name, int bits) {
  const std::vector<int64_t> shape = checkpoint.require(name + ".codes").shape,
                             groups = checkpoint.require(name + ".scale").shape;
  std::vector<uint8_t> codes(size_t(shape[0] * shape[1]));
  checkpoint.read(name + ".codes", 0, shape[0], 0, shape[1], codes.data());
  const std::vector<float> scale = checkpoint.read_f32(name + ".scale");
  const std::vector<float> minimum = bits < 8 ? checkpoint.read_f32(name + ".minimum") : std::vector<float>();
  const int64_t inputs = shape[1] * 8 / bits;  // enough of them: the rest is cut off by the caller
  std::vector<float> out;
  for (int64_t row = 0; row < shape[0]; ++row)
    for (int64_t i = 0; i < inputs; ++i) {
      unsigned code = 0;
      for (int b = 0; b < bits; ++b) code |= bit_of(&codes[size_t(row * shape[1])], i, bits, b) << b;
      const size_t group = size_t(row * groups[1] + std::min(i / 64, groups[1] - 1));
      out.push_back(bits == 8 ? scale[group] * float(int(code) - 128) : minimum[group] + scale[group] * float(code));
    }
  return out;
}

// A dense folder in f32 with the numbers of the quantised one.
void write_dequantised(const std::string& original, const std::string& quantised, const std::string& out) {
  const Checkpoint dense = Checkpoint::open(original), low = Checkpoint::open(quantised);
  const Blueprint blueprint = read_blueprint(low);
  fs::create_directory(out);
  fs::copy(original + "/config.json", out);
  SafetensorsWriter writer(fs::path(out) / "model.safetensors", {});
  const std::vector<std::string> names = dense.names();
  for (const std::string& name : names) writer.add(name, DType::f32, dense.require(name).shape);
  writer.begin();
  for (const std::string& name : names) {
    std::vector<float> values = dense.read_f32(name);
    if (const auto it = blueprint.quantised.find(name); it != blueprint.quantised.end()) {
      const std::vector<int64_t> shape = dense.require(name).shape;
      const bool input_major = blueprint.source(Part::ffn_up, 0).input_major && name.find("wte") == std::string::npos;
      const int64_t outputs = low.require(name + ".codes").shape[0], inputs = int64_t(values.size()) / outputs;
      const std::vector<float> rows = has_planes(it->second) ? dequantised_planes(low, name, bits_of(it->second))
                                                             : dequantised(low, name, bits_of(it->second));
      const int64_t stride = int64_t(rows.size()) / outputs;
      for (int64_t n = 0; n < outputs; ++n)
        for (int64_t i = 0; i < inputs; ++i)
          values[size_t(input_major ? i * outputs + n : n * inputs + i)] = rows[size_t(n * stride + i)];
    }
    writer.write(name, values.data(), values.size() * sizeof(float));
  }
  writer.finish();
}

TEST(QuantizedModel, InF32HasItsCacheInF32WhateverItsHeadIs) {
  const TemporaryFolder scratch;
  quantize_model(options_for(fixture("families/llama-3.1"), scratch / "low"));
  const auto logits = [&](std::optional<DType> cache) {
    LoadOptions options;
    options.dtype = WeightFormat::f32;
    options.engine.kv_dtype = cache;
    std::vector<float> out;
    with_engine(scratch / "low", 1, options, [&](Engine& engine, Communicator& c) {
      out = run_tokens(engine, c, {5, 6, 7, 8, 9, 10, 11, 12}, 1, false);
    });
    return out;
  };
  EXPECT_EQ(logits(std::nullopt), logits(DType::f32));
  EXPECT_NE(logits(std::nullopt), logits(DType::bf16));
}

class QuantizedFamily : public testing::TestWithParam<std::string> {
 protected:
  static std::string folder() { return fixture("families/" + GetParam()); }
  static std::vector<float> logits(const std::string& folder, int ranks, int chunk,
                                   Reduction reduction = Reduction::invariant) {
    const std::vector<float> tokens = Checkpoint::open(QuantizedFamily::folder()).read_f32("golden.tokens");
    LoadOptions options;
    options.dtype = WeightFormat::f32;
    options.reduction = reduction;
    std::vector<float> out;
    with_engine(folder, ranks, options, [&](Engine& engine, Communicator& c) {
      out = run_tokens(engine, c, {tokens.begin(), tokens.end()}, chunk, false);
    });
    return out;
  }

  // Of the folder "low" of `scratch`.
  static void expect_same_bits_and_numbers(const TemporaryFolder& scratch) {
    const std::vector<float> alone = logits(scratch / "low", 1, 64);
    for (int ranks : {2, 3, 4}) EXPECT_EQ(logits(scratch / "low", ranks, 64), alone) << ranks << " ranks";
    EXPECT_EQ(logits(scratch / "low", 2, 1), alone);
    EXPECT_LT(distance(logits(scratch / "low", 3, 64, Reduction::fast), alone), 1e-4);

    // The same numbers in floats: what differs is that activations are rounded to 8 bits.
    write_dequantised(folder(), scratch / "low", scratch / "floats");
    const std::vector<float> floats = logits(scratch / "floats", 1, 64);
    EXPECT_LT(distance(alone, floats), 2e-3);
    EXPECT_GT(distance(floats, logits(folder(), 1, 64)), 10 * distance(alone, floats));  // and that is all
  }
};

TEST_P(QuantizedFamily, ComputesWithTheStoredNumbersTheSameBitsOnAnyNumberOfRanks) {
  const TemporaryFolder scratch;
  quantize_model(options_for(folder(), scratch / "low"));
  const Blueprint blueprint = read_blueprint(Checkpoint::open(scratch / "low"));
  EXPECT_EQ(blueprint.format_of(Part::ffn_up, 0, WeightFormat::f32), WeightFormat::int5);
  EXPECT_EQ(blueprint.format_of(Part::ffn_down, 0, WeightFormat::f32), WeightFormat::int4);
  EXPECT_EQ(blueprint.format_of(Part::query, 0, WeightFormat::f32), WeightFormat::int6);
  EXPECT_EQ(blueprint.format_of(Part::head, 0, WeightFormat::f32), WeightFormat::int8);

  expect_same_bits_and_numbers(scratch);
}

TEST_P(QuantizedFamily, PlanesByColumnComputeWithTheStoredNumbersTheSameBitsOnAnyNumberOfRanks) {
  const TemporaryFolder scratch;
  QuantizeOptions options = options_for(folder(), scratch / "low");
  options.down = options.gate_up = options.attention = WeightFormat::planes3;
  options.head = WeightFormat::planes4;
  quantize_model(options);
  expect_same_bits_and_numbers(scratch);
}

TEST_P(QuantizedFamily, PlanesByBlockComputeWithTheStoredNumbersTheSameBitsOnAnyNumberOfRanks) {
  const TemporaryFolder scratch;
  QuantizeOptions options = options_for(folder(), scratch / "low");
  options.down = options.gate_up = options.attention = options.head = WeightFormat::planes4;
  options.scales = PlaneScales::block;
  quantize_model(options);
  expect_same_bits_and_numbers(scratch);
}

INSTANTIATE_TEST_SUITE_P(All, QuantizedFamily, testing::ValuesIn(families()), [](const auto& family) {
  std::string name = family.param;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(uint8_t(c)); }, '_');
  return name;
});

}  // namespace
}  // namespace pleat::test
