#include <gtest/gtest.h>

#include "kernels/check.h"
#include "tests/kernels/matmul_fixture.h"

namespace pleat {
namespace {

constexpr int64_t kOutputs = 133;  // enough panels for the kernels of many rows

int64_t inputs_of(WeightFormat format, int leaves) { return is_low_bit(format) ? leaves * 64 - 27 : leaves * 11 + 3; }
int64_t unit_of(WeightFormat format) { return is_low_bit(format) ? kGroup : 1; }

// Columns of x that rank r sees, and its rows of W with its leaves.
struct RankPart {
  int first_leaf;
  std::vector<TreeNode> nodes;
  std::vector<float> sums;  // [nodes][rows, outputs]
};

RankPart product_of_rank(Context& ctx, const RandomWeights& w, const std::vector<int64_t>& offsets, int leaves,
                         int ranks, int rank, const std::vector<float>& x, int64_t rows) {
  const int begin = first_leaf(leaves, ranks, rank), end = first_leaf(leaves, ranks, rank + 1);
  RankPart part{begin, cover(leaves, begin, end), {}};
  if (begin == end) return part;
  std::vector<int64_t> own;
  for (int leaf = begin; leaf <= end; ++leaf) own.push_back(offsets[leaf] - offsets[begin]);
  const int64_t inputs = own.back(), first = offsets[begin];
  const PackedMatrix packed = w.rows(first, own);
  std::vector<float> own_x;
  for (int64_t row = 0; row < rows; ++row) {
    own_x.insert(own_x.end(), x.begin() + row * w.inputs + first, x.begin() + row * w.inputs + first + inputs);
  }
  part.sums = nodes_of(ctx, own_x, rows, packed, begin, part.nodes);
  return part;
}

TEST(MatmulNodes, EveryNodeIsTheSumOfItsLeaves) {
  for (Isa isa : isas()) {
    Context ctx(2, true, isa);
    for (WeightFormat format : kFormats) {
      for (int leaves : {25, 32}) {
        const int64_t inputs = inputs_of(format, leaves);
        const std::vector<int64_t> offsets = uneven_leaves(inputs, leaves, unit_of(format));
        const RandomWeights w(format, inputs, kOutputs, offsets);
        const std::vector<TreeNode> nodes = cover(leaves, 3, leaves);
        for (int64_t rows : {1, 5, 29}) {
          const std::vector<float> x = random_floats(rows * inputs, 7);
          const std::vector<double> activations = activations_of(w, x);
          const std::vector<float> out = nodes_of(ctx, x, rows, w.packed, 0, nodes);
          for (size_t i = 0; i < out.size(); ++i) {
            const TreeNode& node = nodes[i / (rows * kOutputs)];
            const int64_t row = int64_t(i) / kOutputs % rows;
            const Expected expected =
                expect(w, &activations[row * inputs], i % kOutputs, offsets[node.begin], offsets[node.end], 6);
            ASSERT_NEAR(out[i], expected.value, expected.tolerance)
                << name_of(isa) << " " << name_of(format) << " " << i;
          }
        }
      }
    }
  }
}

TEST(MatmulNodes, RowsOfAPromptHaveTheSameBitsAlone) {
  for (Isa isa : isas()) {
    Context ctx(2, true, isa);
    for (WeightFormat format : {WeightFormat::f32, WeightFormat::bf16}) {
      for (int leaves : {1, 25, 32}) {
        const int64_t inputs = inputs_of(format, leaves) + 700, rows = 65, few = 5;
        std::vector<int64_t> offsets = uneven_leaves(inputs - 700, leaves, 1);
        offsets.back() = inputs;  // a leaf of two blocks
        const RandomWeights w(format, inputs, kOutputs, offsets);
        const std::vector<TreeNode> nodes = cover(leaves, leaves / 9, leaves);
        const std::vector<float> x = random_floats(rows * inputs, 7);
        const std::vector<float> prompt = nodes_of(ctx, x, rows, w.packed, 0, nodes);
        const std::vector<float> alone = nodes_of(ctx, {x.begin(), x.begin() + few * inputs}, few, w.packed, 0, nodes);
        for (size_t node = 0; node < nodes.size(); ++node) {
          const auto first = prompt.begin() + int64_t(node) * rows * kOutputs;
          const auto expected = alone.begin() + int64_t(node) * few * kOutputs;
          ASSERT_EQ(std::vector<float>(first, first + few * kOutputs),
                    std::vector<float>(expected, expected + few * kOutputs))
              << name_of(isa) << " " << name_of(format) << " " << leaves << " leaves";
        }
      }
    }
  }
}

TEST(MatmulNodes, RanksTogetherGiveTheBitsOfOneRank) {
  for (Isa isa : isas()) {
    Context ctx(2, true, isa);
    for (WeightFormat format : kFormats) {
      for (int leaves : {25, 32}) {
        const int64_t inputs = inputs_of(format, leaves);
        const std::vector<int64_t> offsets = uneven_leaves(inputs, leaves, unit_of(format));
        const RandomWeights w(format, inputs, kOutputs, offsets);
        for (int64_t rows : {1, 4}) {
          const std::vector<float> x = random_floats(rows * inputs, 7);
          const std::vector<float> one_rank = nodes_of(ctx, x, rows, w.packed, 0, {{0, leaves}});
          for (int ranks : {1, 2, 3, 5, 7}) {
            std::vector<RankPart> parts;
            std::vector<TreeNode> nodes;
            std::vector<const float*> values;
            for (int rank = 0; rank < ranks; ++rank)
              parts.push_back(product_of_rank(ctx, w, offsets, leaves, ranks, rank, x, rows));
            for (const RankPart& part : parts) {
              for (size_t i = 0; i < part.nodes.size(); ++i) {
                nodes.push_back(part.nodes[i]);
                values.push_back(&part.sums[i * rows * kOutputs]);
              }
            }
            std::vector<float> sum(rows * kOutputs);
            finish_tree(leaves, nodes, values, rows * kOutputs, sum.data());
            ASSERT_EQ(sum, one_rank) << name_of(isa) << " " << name_of(format) << " on " << ranks << " ranks";
          }
        }
      }
    }
  }
}

TEST(MatmulNodes, BitsDependNeitherOnTheBatchNorOnThreads) {
  for (Isa isa : isas()) {
    Context one(1, true, isa), three(3, true, isa);
    for (WeightFormat format : kFormats) {
      const int64_t inputs = inputs_of(format, 25), rows = 14;
      const RandomWeights w(format, inputs, kOutputs, uneven_leaves(inputs, 25, unit_of(format)));
      const std::vector<float> x = random_floats(rows * inputs, 7);
      const std::vector<float> batch = nodes_of(three, x, rows, w.packed, 0, {{0, 25}});
      for (int64_t row = 0; row < rows; ++row) {
        const std::vector<float> alone_x(x.begin() + row * inputs, x.begin() + (row + 1) * inputs);
        const std::vector<float> expected(batch.begin() + row * kOutputs, batch.begin() + (row + 1) * kOutputs);
        ASSERT_EQ(nodes_of(one, alone_x, 1, w.packed, 0, {{0, 25}}), expected)
            << name_of(isa) << " " << name_of(format);
      }
    }
  }
}

// Inputs 3 and 100 are a thousand times louder than the rest: in a group's scale they would leave nothing of the
// others.
TEST(MatmulNodes, ProtectedInputsAreMultipliedInBf16AndLeftOutOfTheScales) {
  const int64_t inputs = 200;
  const std::vector<int32_t> protected_inputs = {3, 100};
  for (Isa isa : isas()) {
    Context ctx(2, true, isa);
    for (WeightFormat format : {WeightFormat::int8, WeightFormat::int4, WeightFormat::int3}) {
      RandomWeights w(format, inputs, kOutputs, {0, 64, 128, 128, inputs});
      std::vector<bf16> kept;  // [outputs, 2]
      for (float value : random_floats(2 * kOutputs, 5)) kept.push_back(to_bf16(value));
      w.packed.low_bit().protect(protected_inputs);
      w.packed.low_bit().pack_protected(0, 50, kept.data(), 2);
      w.packed.low_bit().pack_protected(50, kOutputs - 50, kept.data() + 100, 2);
      std::vector<float> x = random_floats(40 * inputs, 7), ordinary = x, column(inputs);
      for (int64_t row = 0; row < 40; ++row)
        for (int32_t input : protected_inputs) {
          x[row * inputs + input] *= 1000;
          ordinary[row * inputs + input] = 0;
        }
      const std::vector<double> activations = activations_of(w, ordinary);
      const std::vector<float> out = nodes_of(ctx, x, 40, w.packed, 0, {{0, 2}, {2, 4}});
      for (size_t i = 0; i < out.size(); ++i) {
        const int64_t node = int64_t(i) / (40 * kOutputs), row = int64_t(i) / kOutputs % 40, n = int64_t(i) % kOutputs;
        const Expected rest = expect(w, &activations[row * inputs], n, node * 128, node == 0 ? 128 : inputs, 8);
        double loud = 0;
        for (int k = 0; k < 2; ++k)
          if (node == 0) loud += double(x[row * inputs + protected_inputs[k]]) * double(to_f32(kept[n * 2 + k]));
        ASSERT_NEAR(out[i], rest.value + loud, rest.tolerance + 1e-3) << name_of(isa) << " " << name_of(format);
      }
      for (int64_t row : {0, 39})
        EXPECT_EQ(nodes_of(ctx, {x.begin() + row * inputs, x.begin() + (row + 1) * inputs}, 1, w.packed, 0, {{0, 2}}),
                  std::vector<float>(out.begin() + row * kOutputs, out.begin() + (row + 1) * kOutputs));
      w.packed.column(60, column.data());
      EXPECT_EQ(column[100], to_f32(kept[60 * 2 + 1]));
      EXPECT_EQ(column[101], w.values[101 * kOutputs + 60]);
    }
  }
}

TEST(MatmulNodes, OneLeafIsThePlainProduct) {
  Context ctx(2, true);
  const RandomWeights w(WeightFormat::bf16, 99, kOutputs, {0, 99});
  const std::vector<float> x = random_floats(2 * 99, 7);
  EXPECT_EQ(nodes_of(ctx, x, 2, w.packed, 6, {{6, 7}}), matmul_of(ctx, x, 2, w.packed));
}

TEST(MatmulNodes, RefusesNodesOfOtherRanks) {
  Context ctx(1, true);
  const RandomWeights w(WeightFormat::f32, 8, 8, {0, 4, 8});
  const std::vector<float> x(8);
  EXPECT_THROW(nodes_of(ctx, x, 1, w.packed, 2, {{1, 3}}), Error);
}

}  // namespace
}  // namespace pleat
