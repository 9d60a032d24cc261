#include <gtest/gtest.h>

#include "kernels/neuron_rows.h"
#include "tests/kernels/matmul_fixture.h"

namespace pleat {
namespace {

constexpr WeightFormat kRowFormats[] = {WeightFormat::f32, WeightFormat::bf16};

TEST(NeuronRows, UpGivesTheBitsOfThePackedProduct) {
  for (Isa isa : isas()) {
    Context ctx(2, true, isa);
    for (WeightFormat format : kRowFormats) {
      for (int64_t width : {320, 77, 1}) {
        for (int64_t neurons : {1, 33, 96, 200}) {
          const RandomWeights w(format, width, neurons, {0, width});
          NeuronRows up(format, neurons, width);
          up.pack(0, 0, {w.values.data(), DType::f32, neurons, width, 1, neurons});
          const std::vector<float> bias = random_floats(neurons, 5);
          for (int64_t rows : {1, 5, 13}) {
            const std::vector<float> x = random_floats(rows * width, 7);
            std::vector<float> y(rows * neurons, NAN);
            matmul_up(ctx, {x.data(), rows, width}, up, bias.data(), {y.data(), rows, neurons});
            ASSERT_EQ(y, matmul_of(ctx, x, rows, w.packed, bias.data()))
                << name_of(isa) << " " << name_of(format) << " " << rows << " " << width << " " << neurons;
          }
        }
      }
    }
  }
}

TEST(NeuronRows, DownGivesTheBitsOfThePackedNodes) {
  for (Isa isa : isas()) {
    Context ctx(3, true, isa);
    for (WeightFormat format : kRowFormats) {
      for (int64_t width : {1, 33, 80, 200}) {
        const int64_t neurons = 283;
        const int leaves = 9, first = 4;
        const std::vector<int64_t> offsets = uneven_leaves(neurons, leaves, 1);
        const std::vector<TreeNode> nodes = cover(16, first, first + leaves);
        const RandomWeights w(format, neurons, width, offsets);
        NeuronRows down(format, neurons, width);
        down.pack(0, 0, {w.values.data(), DType::f32, neurons, width, width, 1});
        for (int64_t rows : {1, 5, 13}) {
          const std::vector<float> a = random_floats(rows * neurons, 7);
          std::vector<float> out(nodes.size() * rows * width, NAN);
          matmul_down(ctx, {a.data(), rows, neurons}, down, offsets, first, nodes, out.data());
          ASSERT_EQ(out, nodes_of(ctx, a, rows, w.packed, first, nodes))
              << name_of(isa) << " " << name_of(format) << " " << rows << " " << width;
        }
      }
    }
  }
}

TEST(NeuronRows, RankWithoutNeuronsHasNothingToAdd) {
  Context ctx(2, true);
  const NeuronRows none(WeightFormat::bf16, 0, 40);
  const std::vector<float> x = random_floats(2 * 40, 7);
  float untouched = 42;
  matmul_up(ctx, {x.data(), 2, 40}, none, nullptr, {&untouched, 2, 0});
  matmul_down(ctx, {x.data(), 2, 0}, none, {0}, 32, {}, &untouched);
  EXPECT_EQ(untouched, 42);
}

TEST(NeuronRows, RowsAreAlignedAndHoldTheBlock) {
  NeuronRows rows(WeightFormat::bf16, 5, 37);
  const std::vector<float> values = random_floats(2 * 3, 1);
  rows.pack(3, 30, {values.data(), DType::f32, 2, 3, 3, 1});
  EXPECT_EQ(rows.stride_bytes(), 128);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(rows.row(1)) % 64, 0u);
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(reinterpret_cast<const bf16*>(rows.row(3 + i / 3))[30 + i % 3].bits, to_bf16(values[i]).bits);
  }
  EXPECT_EQ(reinterpret_cast<const bf16*>(rows.row(3))[29].bits, 0);
}

}  // namespace
}  // namespace pleat
