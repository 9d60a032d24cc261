// Neuron rows in low-bit formats: storage and dense products.
#include <gtest/gtest.h>

#include "low_bit_rows_fixture.h"

namespace pleat {
namespace {

constexpr int64_t kWidths[] = {40, 96, 320, 576, 1024, 1100};

TEST(LowBitRows, UnpackToTheCheckpointsWeights) {
  for (WeightFormat format : kRowFormats)
    for (int64_t width : kWidths) {
      const RandomRows w(format, 9, width, 1, {3, 39}, {4, 8});
      std::vector<float> values(size_t(width), NAN);
      for (int64_t neuron = 0; neuron < 9; ++neuron) {
        w.rows.unpack(neuron, values.data());
        for (int64_t k = 0; k < width; ++k)
          ASSERT_EQ(values[size_t(k)], float(w.weight(neuron, k))) << name_of(format) << " " << neuron << ", " << k;
      }
    }
}

TEST(LowBitRows, CountWhatAGatherStreams) {
  NeuronRows rows(WeightFormat::int3, 10, 4096);
  EXPECT_EQ(rows.row_bytes(), 4096 * 3 / 8 + 2 * 2 * 64);
  EXPECT_EQ(rows.stride_bytes(), 1792);
  EXPECT_EQ(rows.bytes(), 17920u);
  rows.protect({1, 5, 9});
  EXPECT_EQ(rows.row_bytes(), 4096 * 3 / 8 + 2 * 2 * 64 + 6);
  EXPECT_EQ(rows.stride_bytes(), 1856);
  EXPECT_EQ(NeuronRows(WeightFormat::int8, 10, 4096).row_bytes(), 4096 + 2 * 64);
  EXPECT_EQ(NeuronRows(WeightFormat::bf16, 10, 77).row_bytes(), 154);
  EXPECT_EQ(NeuronRows(WeightFormat::planes4, 10, 4096).row_bytes(), 4096 * 5 / 8);
  NeuronRows down(WeightFormat::int4, 10, 4096);
  const size_t bytes = down.bytes();
  down.protect_neurons({7});
  EXPECT_EQ(down.bytes(), bytes + 8192);
}

TEST(LowBitRows, DenseProductsAreThoseOfTheUnpackedRows) {
  const int64_t neurons = 77, rows = 13;
  const std::vector<int64_t> offsets = {0, 5, 5, 40, 41, neurons};
  const std::vector<TreeNode> nodes = {{8, 12}, {12, 13}};
  for (Isa isa : isas_here())
    for (WeightFormat format : kRowFormats)
      for (int64_t width : kWidths) {
        Context ctx(2, true, isa);
        const RandomRows w(format, neurons, width, 1, {0, 38}, {0, 39, 76});
        NeuronRows plain(WeightFormat::f32, neurons, width);
        const std::vector<float> values(w.weights.begin(), w.weights.end());
        plain.pack(0, 0, {values.data(), DType::f32, neurons, width, width, 1});
        const std::vector<float> x = random_floats(size_t(rows * width), 2),
                                 a = random_floats(size_t(rows * neurons), 3), bias = random_floats(size_t(neurons), 4);
        std::vector<float> y(size_t(rows * neurons), NAN), expected_y = y, out(size_t(2 * rows * width), NAN),
                                                           expected_out = out;
        matmul_up(ctx, {x.data(), rows, width}, w.rows, bias.data(), {y.data(), rows, neurons});
        matmul_up(ctx, {x.data(), rows, width}, plain, bias.data(), {expected_y.data(), rows, neurons});
        EXPECT_TRUE(same_bits(y, expected_y)) << name_of(isa) << " " << name_of(format) << " " << width;
        matmul_down(ctx, {a.data(), rows, neurons}, w.rows, offsets, 8, nodes, out.data());
        matmul_down(ctx, {a.data(), rows, neurons}, plain, offsets, 8, nodes, expected_out.data());
        EXPECT_TRUE(same_bits(out, expected_out)) << name_of(isa) << " " << name_of(format) << " " << width;
      }
}

}  // namespace
}  // namespace pleat
