#include "kernels/cuda/leaves.h"

#include <gtest/gtest.h>

#include <numeric>

#include "../low_bit_rows_fixture.h"
#include "kernels/cuda/multiply_rows.h"

namespace pleat::cuda {
namespace {

// The tree sum of values [leaves][n] at element i, as reduce_tree.h describes it.
float tree_sum(const std::vector<float>& values, int n, TreeNode node, int i) {
  if (node.leaves() == 1) return values[size_t(node.begin * n + i)];
  return tree_sum(values, n, {node.begin, node.middle()}, i) + tree_sum(values, n, {node.middle(), node.end}, i);
}

TEST(CudaLeaves, NodesAreTheTreesOfALeafAndItsPartsInOrder) {
  const Stream stream;
  const int n = 300;
  for (const int ranks : {1, 3})
    for (const bool has_leaves : {true, false}) {
      const int leaves = 13, first = first_leaf(leaves, ranks, ranks - 1), mine = leaves - first;
      std::vector<int32_t> offsets = {0};  // 0, 1, 2, 0, 1, ... parts a leaf
      for (int leaf = 0; leaf < mine; ++leaf) offsets.push_back(offsets.back() + leaf % 3);
      const std::vector<float> of_leaves = random_floats(size_t(mine * n), 1),
                               parts = random_floats(size_t(offsets.back() * n), 2);
      std::vector<float> sums = has_leaves ? of_leaves : std::vector<float>(of_leaves.size());
      for (int leaf = 0; leaf < mine; ++leaf)
        for (int part = offsets[size_t(leaf)]; part < offsets[size_t(leaf) + 1]; ++part)
          for (int i = 0; i < n; ++i) sums[size_t(leaf * n + i)] += parts[size_t(part * n + i)];

      const std::vector<TreeNode> nodes = cover(leaves, first, leaves);
      const DeviceLeaves on_device(offsets, nodes, first, stream);
      const DeviceArray<float> device_leaves(of_leaves, stream), device_parts(parts, stream),
          out(nodes.size() * size_t(n));
      sum_leaves(stream.get(), on_device.view(), has_leaves ? device_leaves.data() : nullptr, device_parts.data(), n,
                 out.data());
      const std::vector<float> got = out.to_host(stream);
      for (size_t node = 0; node < nodes.size(); ++node)
        for (int i = 0; i < n; ++i)
          ASSERT_EQ(got[node * size_t(n) + size_t(i)],
                    tree_sum(sums, n, {nodes[node].begin - first, nodes[node].end - first}, i))
              << "node " << node << ", element " << i << " of rank " << ranks - 1;
    }
}

class MultiplyLeaves : public testing::TestWithParam<WeightFormat> {};

TEST_P(MultiplyLeaves, ALeafIsItsInputsProductAndANodeTheTreeOfLeaves) {
  const Stream stream;
  const bool groups = is_low_bit(GetParam());
  const int width = 700, outputs = 11;
  const std::vector<int32_t> offsets = groups ? std::vector<int32_t>{0, 64, 256, 256, 320, 640, 700, 700}
                                              : std::vector<int32_t>{0, 3, 64, 64, 71, 640, 700, 700};
  const int leaves = int(offsets.size()) - 1;
  const std::vector<TreeNode> whole = {{0, leaves}};
  const RandomRows w(GetParam(), outputs, width, 5,
                     groups ? std::vector<int32_t>{3, 255, width - 1} : std::vector<int32_t>());
  for (const int rows : {1, 3, 16}) {
    const std::vector<float> x = random_floats(size_t(rows * width), 1);
    const DeviceArray<float> device_x(x, stream), alone(size_t(leaves * rows * outputs)), node(size_t(rows * outputs));
    const DeviceRows device_w(w.rows, stream);
    const DeviceLeaves tree(offsets, whole, 0, stream);
    QuantisedRows quantised(width);
    const Rows view = device_w.view();
    const RowInput input =
        quantised.quantise(stream.get(), device_x.data(), rows, view.protected_inputs, view.protected_input_count);
    multiply_rows(stream.get(), input,
                  {{view, nullptr, alone.data(), outputs, tree.each_alone()},
                   {view, nullptr, node.data(), outputs, tree.view()}});
    const std::vector<float> of_leaves = alone.to_host(stream), of_node = node.to_host(stream);
    for (int i = 0; i < rows * outputs; ++i) {
      double sum = 0, tolerance = 0;
      for (int leaf = 0; leaf < leaves; ++leaf) {
        std::vector<float> part(size_t(width), 0.0f);  // x with the other leaves' inputs left out
        const float* const row = &x[size_t(i / outputs * width)];
        std::copy(row + offsets[size_t(leaf)], row + offsets[size_t(leaf) + 1], part.begin() + offsets[size_t(leaf)]);
        const Near expected = dot(w, part.data(), i % outputs);
        ASSERT_NEAR(of_leaves[size_t(leaf * rows * outputs + i)], expected.value, expected.tolerance)
            << "leaf " << leaf << ", element " << i << " of " << rows << " rows";
        sum += expected.value;
        tolerance += 2 * expected.tolerance;
      }
      ASSERT_NEAR(of_node[size_t(i)], sum, tolerance);
      ASSERT_EQ(of_node[size_t(i)], tree_sum(of_leaves, rows * outputs, whole[0], i));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, MultiplyLeaves,
                         testing::Values(WeightFormat::f32, WeightFormat::bf16, WeightFormat::int8, WeightFormat::int6,
                                         WeightFormat::int4, WeightFormat::int3),
                         [](const auto& info) { return std::string(name_of(info.param)); });

class MultiplyLeavesOfFloats : public testing::TestWithParam<WeightFormat> {};

// A rank that has some of the inputs only gives the same sums of its leaves, wherever in memory they stand. (The
// engine's tests split low-bit models.)
TEST_P(MultiplyLeavesOfFloats, ALeafHasTheSameBitsWhateverElseTheRankHas) {
  const Stream stream;
  const int width = 200, outputs = 9, rows = 2, begin = 37;
  const RandomRows w(GetParam(), outputs, width, 5);
  std::vector<float> some;
  for (int n = 0; n < outputs; ++n)
    for (int k = begin; k < width; ++k) some.push_back(float(w.weight(n, k)));
  NeuronRows part(GetParam(), outputs, width - begin);
  part.pack(0, 0, {some.data(), DType::f32, outputs, width - begin, width - begin, 1});
  const std::vector<float> x = random_floats(size_t(rows * width), 1);
  const DeviceArray<float> device_x(x, stream), all(size_t(2 * rows * outputs)), alone(size_t(rows * outputs));
  const DeviceRows whole_w(w.rows, stream), part_w(part, stream);
  const std::vector<TreeNode> two = {{0, 1}, {1, 2}}, last = {{1, 2}};
  const DeviceLeaves both(std::vector<int32_t>{0, begin, width}, two, 0, stream),
      second(std::vector<int32_t>{0, width - begin}, last, 1, stream);
  const RowInput input = RowInput::of_floats(device_x.data(), rows, width);
  multiply_rows(stream.get(), input,
                {{whole_w.view(), nullptr, all.data(), outputs, both.view()},
                 {part_w.view(), nullptr, alone.data(), outputs, second.view(), begin}});
  EXPECT_TRUE(
      same_bits(alone.to_host(stream).data(), &all.to_host(stream)[size_t(rows * outputs)], size_t(rows * outputs)));
}

INSTANTIATE_TEST_SUITE_P(Formats, MultiplyLeavesOfFloats, testing::Values(WeightFormat::f32, WeightFormat::bf16),
                         [](const auto& info) { return std::string(name_of(info.param)); });

}  // namespace
}  // namespace pleat::cuda
