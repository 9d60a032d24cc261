#include "kernels/cuda/gemm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "../low_bit_rows_fixture.h"
#include "kernels/cuda/activation.h"
#include "schedule.h"

namespace pleat::cuda {
namespace {

constexpr WeightFormat kFormats[] = {WeightFormat::f32,  WeightFormat::bf16, WeightFormat::int8, WeightFormat::int6,
                                     WeightFormat::int5, WeightFormat::int4, WeightFormat::int3, WeightFormat::int2};
constexpr float kUntouched = -77.0f;

// Rows of x and of y that lie apart, what is between being NaN and kUntouched.
struct Operands {
  Operands(int rows, int width, int outputs, uint32_t seed)
      : rows(rows),
        width(width),
        outputs(outputs),
        x(random_floats(size_t(rows * x_stride()), seed)),
        bias(random_floats(size_t(outputs), seed + 1)),
        device_x(size_t(rows * x_stride())),
        device_bias(bias, stream),
        y(size_t(rows * y_stride())),
        room(rows, width) {
    for (int row = 0; row < rows; ++row)
      for (int k = width; k < x_stride(); ++k) x[size_t(row * x_stride() + k)] = NAN;
    device_x.copy_from(x, stream);
    stream.wait();
  }
  int x_stride() const { return width + 3; }
  int y_stride() const { return outputs + 5; }
  const float* row_of_x(int row) const { return &x[size_t(row * x_stride())]; }

  // y [count, y_stride] of rows from `first` on.
  std::vector<float> multiply(const Rows& w, std::optional<Activation> activation, int first, int count) {
    y.copy_from(std::vector<float>(y.size(), kUntouched), stream);
    const MatrixView<const float> in(device_x.data() + first * x_stride(), count, width, x_stride());
    gemm(stream.get(), room.prepare(stream.get(), in, w),
         {w, device_bias.data(), activation, {y.data(), count, outputs, y_stride()}});
    std::vector<float> out = y.to_host(stream);
    out.resize(size_t(count * y_stride()));
    return out;
  }
  std::vector<float> multiply(const Rows& w) { return multiply(w, std::nullopt, 0, rows); }

  // The nodes [leaves.nodes][rows, outputs] of inputs [first_input, first_input + w.width).
  std::vector<float> multiply_leaves(const Rows& w, const Leaves& leaves, int first_input = 0) {
    const DeviceArray<float> nodes(size_t(leaves.nodes * rows * outputs)),
        work(size_t(leaves.pending * rows * outputs));
    const MatrixView<const float> in(device_x.data() + first_input, rows, w.width, x_stride());
    gemm(stream.get(), room.prepare(stream.get(), in, w),
         {w, nullptr, std::nullopt, {nodes.data(), rows, outputs}, leaves, work.data()});
    return nodes.to_host(stream);
  }

  Stream stream;
  int rows, width, outputs;
  std::vector<float> x, bias;
  DeviceArray<float> device_x, device_bias, y;
  GemmRows room;
};

std::vector<int32_t> some_inputs(WeightFormat format, int64_t width) {
  if (!is_low_bit(format) || width < 70) return {};
  return {3, 64, int32_t(width - 1)};
}

class Gemm : public testing::TestWithParam<WeightFormat> {};

// Tolerance: what the fixture says of f32 sums in some order. A tensor core rounds a sum of 8 or 16 products once, but
// towards 0: fewer and at most twice as large errors than `width` roundings to nearest.
TEST_P(Gemm, AgreesWithPlainLoopsInDoubleAtAnySize) {
  struct Size {
    int rows, outputs, width;
  };
  for (const auto& [rows, outputs, width] :
       {Size{1, 1, 1}, {17, 11, 100}, {128, 128, 64}, {150, 70, 33}, {20, 261, 700}}) {
    const RandomRows w(GetParam(), outputs, width, 5, some_inputs(GetParam(), width));
    Operands operands(rows, width, outputs, 1);
    const DeviceRows device_w(w.rows, operands.stream);
    const std::vector<float> got = operands.multiply(device_w.view());
    for (int row = 0; row < rows; ++row) {
      for (int n = 0; n < outputs; ++n) {
        const Near expected = dot(w, operands.row_of_x(row), n);
        const double value = expected.value + operands.bias[size_t(n)];
        // The bias is one more addition.
        ASSERT_NEAR(got[size_t(row * operands.y_stride() + n)], value, expected.tolerance + std::fabs(value) * 0x1p-23)
            << name_of(GetParam()) << ", width " << width << ", row " << row << " of " << rows << ", output " << n;
      }
      for (int n = outputs; n < operands.y_stride(); ++n)
        ASSERT_EQ(got[size_t(row * operands.y_stride() + n)], kUntouched) << "beyond the outputs";
    }
  }
}

TEST_P(Gemm, ARowHasTheSameBitsHoweverRowsAreCutIntoChunksInAnyOrderOfThreads) {
  constexpr int kRows = 137, kWidth = 230, kOutputs = 37;
  const RandomRows w(GetParam(), kOutputs, kWidth, 6);
  Operands operands(kRows, kWidth, kOutputs, 3);
  const DeviceRows device_w(w.rows, operands.stream);
  const std::vector<float> together = operands.multiply(device_w.view());
  for (const int chunk : {17, 64}) {
    set_schedule(unsigned(chunk));
    for (int first = 0; first < kRows; first += chunk) {
      const int count = std::min(chunk, kRows - first);
      const std::vector<float> part = operands.multiply(device_w.view(), std::nullopt, first, count);
      ASSERT_TRUE(same_bits(part.data(), &together[size_t(first * operands.y_stride())], part.size())) << first;
    }
  }
  set_schedule(0);
}

TEST_P(Gemm, AnActivationGivesWhatItGivesApart) {
  constexpr int kRows = 19, kWidth = 70, kOutputs = 30;
  const RandomRows w(GetParam(), kOutputs, kWidth, 8);
  Operands operands(kRows, kWidth, kOutputs, 4);
  const DeviceRows device_w(w.rows, operands.stream);
  for (const Activation activation : {Activation::gelu, Activation::gelu_new, Activation::relu, Activation::silu}) {
    operands.multiply(device_w.view());
    activate(operands.stream.get(), activation, {operands.y.data(), kRows, kOutputs, operands.y_stride()});
    const std::vector<float> expected = operands.y.to_host(operands.stream);
    EXPECT_TRUE(same_bits(operands.multiply(device_w.view(), activation, 0, kRows), expected)) << name_of(activation);
  }
}

// Leaves of any length, one of them empty, and not all at multiples of 16 bytes; low-bit ones of whole groups.
TEST_P(Gemm, LeavesAreProductsOfTheirOwnAndAddedAlongTheTree) {
  constexpr int kRows = 19, kWidth = 330, kOutputs = 37;
  const bool low = is_low_bit(GetParam());
  const std::vector<int32_t> offsets =
      low ? std::vector<int32_t>{0, 64, 64, 192, 320, kWidth} : std::vector<int32_t>{0, 6, 70, 70, 167, kWidth};
  const int count = int(offsets.size()) - 1;
  const std::vector<TreeNode> nodes = {{0, 3}, {3, 5}};
  const RandomRows w(GetParam(), kOutputs, kWidth, 7, some_inputs(GetParam(), kWidth));
  Operands operands(kRows, kWidth, kOutputs, 3);
  const DeviceRows device_w(w.rows, operands.stream);
  const DeviceLeaves leaves(offsets, nodes, 0, operands.stream);

  const std::vector<float> alone = operands.multiply_leaves(device_w.view(), leaves.each_alone());
  for (int leaf = 0; leaf < count; ++leaf)
    for (int row = 0; row < kRows; ++row) {
      std::vector<float> x(operands.row_of_x(row), operands.row_of_x(row) + kWidth);
      for (int k = 0; k < kWidth; ++k)
        if (k < offsets[size_t(leaf)] || k >= offsets[size_t(leaf) + 1]) x[size_t(k)] = 0;
      for (int n = 0; n < kOutputs; ++n) {
        const Near expected = dot(w, x.data(), n);
        ASSERT_NEAR(alone[size_t((leaf * kRows + row) * kOutputs + n)], expected.value, expected.tolerance)
            << "leaf " << leaf << ", row " << row << ", output " << n;
      }
    }

  const std::vector<float> sums = operands.multiply_leaves(device_w.view(), leaves.view());
  const auto leaf = [&](int index, size_t i) { return alone[size_t(index) * kRows * kOutputs + i]; };
  for (size_t i = 0; i < size_t(kRows) * kOutputs; ++i) {
    ASSERT_EQ(sums[i], (leaf(0, i) + leaf(1, i)) + leaf(2, i)) << i;  // [0, 3) is cut at 2
    ASSERT_EQ(sums[size_t(kRows) * kOutputs + i], leaf(3, i) + leaf(4, i)) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, Gemm, testing::ValuesIn(kFormats),
                         [](const auto& info) { return std::string(name_of(info.param)); });

// The same integers and the same fused multiply-adds in the same order.
TEST(Gemm, OfLowBitsHasTheCpusBits) {
  constexpr int kRows = 23, kWidth = 300, kOutputs = 53;
  const std::vector<int64_t> one_leaf = {0, kWidth};
  const TreeNode whole{0, 1};
  Context ctx(1, false);
  for (const int bits : {1, 2, 3, 4, 5, 6, 8})
    for (const bool is_protected : {false, true}) {
      const int64_t groups = (kWidth + kGroup - 1) / kGroup;
      std::mt19937 generator{unsigned(bits)};
      std::vector<uint8_t> codes(size_t(kOutputs * ((kWidth * bits + 7) / 8)));
      for (uint8_t& byte : codes) byte = uint8_t(generator());
      std::vector<bf16> scale, minimum, loud;
      for (const float value : random_floats(size_t(kOutputs * groups), 1)) scale.push_back(to_bf16(value));
      for (const float value : random_floats(size_t(kOutputs * groups), 2)) minimum.push_back(to_bf16(value));
      for (const float value : random_floats(size_t(kOutputs * 2), 3)) loud.push_back(to_bf16(value));
      LowBitMatrix w(bits, kOutputs, kWidth);
      w.pack(0, kOutputs, codes.data(), scale.data(), bits == 8 ? nullptr : minimum.data());
      if (is_protected) {
        w.protect({5, 299});
        w.pack_protected(0, kOutputs, loud.data(), 2);
      }
      Operands operands(kRows, kWidth, kOutputs, 9);
      std::vector<float> expected(size_t(kRows * operands.y_stride()), kUntouched);
      multiply_low_bit(ctx, {operands.x.data(), kRows, kWidth, operands.x_stride()}, w, {one_leaf, 0, &whole, 1},
                       operands.bias.data(), expected.data(), operands.y_stride(), 0);
      const DeviceRows device_w(w, operands.stream);
      EXPECT_TRUE(same_bits(operands.multiply(device_w.view()), expected)) << bits << " bits";
    }
}

// A rank that has the last leaves only: they begin elsewhere in its memory, between two pieces of 16 bytes or not.
TEST(Gemm, ALeafHasTheSameBitsOnAnyRank) {
  constexpr int kRows = 5, kWidth = 130, kOutputs = 33;
  const std::vector<int32_t> offsets = {0, 6, 70, kWidth};
  for (const WeightFormat format : {WeightFormat::f32, WeightFormat::bf16}) {
    const RandomRows w(format, kOutputs, kWidth, 7);
    Operands operands(kRows, kWidth, kOutputs, 3);
    const DeviceRows device_w(w.rows, operands.stream);
    const DeviceLeaves leaves(offsets, std::vector<TreeNode>{{0, 1}, {1, 2}, {2, 3}}, 0, operands.stream);
    const std::vector<float> all = operands.multiply_leaves(device_w.view(), leaves.view());
    for (int first = 1; first < 3; ++first) {
      const int width = kWidth - offsets[size_t(first)];
      NeuronRows part(format, kOutputs, width);
      const std::vector<float> weights(w.weights.begin(), w.weights.end());
      part.pack(0, 0, {&weights[size_t(offsets[size_t(first)])], DType::f32, kOutputs, width, kWidth, 1});
      std::vector<int32_t> own;
      std::vector<TreeNode> nodes;
      for (int leaf = first; leaf <= 3; ++leaf) own.push_back(offsets[size_t(leaf)] - offsets[size_t(first)]);
      for (int leaf = first; leaf < 3; ++leaf) nodes.push_back({leaf, leaf + 1});
      const DeviceLeaves of_rank(own, nodes, first, operands.stream);
      const DeviceRows device_part(part, operands.stream);
      const std::vector<float> got =
          operands.multiply_leaves(device_part.view(), of_rank.view(), offsets[size_t(first)]);
      EXPECT_TRUE(same_bits(got.data(), &all[size_t(first) * kRows * kOutputs], got.size())) << name_of(format);
    }
  }
}

float tree_sum(TreeNode node, const std::vector<float>& leaves, size_t stride, size_t i) {
  if (node.leaves() == 1) return leaves[size_t(node.begin) * stride + i];
  return tree_sum({node.begin, node.middle()}, leaves, stride, i) +
         tree_sum({node.middle(), node.end}, leaves, stride, i);
}

// More sums wait than a block keeps by itself.
TEST(Gemm, ADeepTreeIsAddedLikeItsLeavesAlone) {
  constexpr int kLeaves = 27, kWidth = kLeaves * 64, kOutputs = 37;
  std::vector<int32_t> offsets;
  for (int leaf = 0; leaf <= kLeaves; ++leaf) offsets.push_back(64 * leaf);
  for (const WeightFormat format : {WeightFormat::f32, WeightFormat::bf16, WeightFormat::int4})
    for (const int rows : {5, 40, 70}) {
      const RandomRows w(format, kOutputs, kWidth, 7);
      Operands operands(rows, kWidth, kOutputs, 3);
      const DeviceRows device_w(w.rows, operands.stream);
      const DeviceLeaves leaves(offsets, std::vector<TreeNode>{{0, kLeaves}}, 0, operands.stream);
      const std::vector<float> alone = operands.multiply_leaves(device_w.view(), leaves.each_alone());
      const std::vector<float> sums = operands.multiply_leaves(device_w.view(), leaves.view());
      for (size_t i = 0; i < sums.size(); ++i)
        ASSERT_EQ(sums[i], tree_sum({0, kLeaves}, alone, sums.size(), i)) << name_of(format) << ", " << rows << " rows";
    }
}

// Enough tiles for wide ones.
TEST(Gemm, ManyOutputsHaveTheBitsOfFew) {
  constexpr int kRows = 65, kWidth = 70, kOutputs = 32800, kSome = 300;
  const RandomRows w(WeightFormat::bf16, kOutputs, kWidth, 6);
  Operands operands(kRows, kWidth, kOutputs, 3);
  const DeviceRows device_w(w.rows, operands.stream);
  const std::vector<float> all = operands.multiply(device_w.view());
  Rows last = device_w.view();
  last.data += (kOutputs - kSome) * last.stride;
  last.rows = kSome;
  const DeviceArray<float> y(size_t(kRows) * kSome);
  gemm(operands.stream.get(),
       operands.room.prepare(operands.stream.get(), {operands.device_x.data(), kRows, kWidth, operands.x_stride()},
                             last),
       {last, operands.device_bias.data() + kOutputs - kSome, std::nullopt, {y.data(), kRows, kSome}});
  const std::vector<float> some = y.to_host(operands.stream);
  for (int row = 0; row < kRows; ++row)
    ASSERT_TRUE(
        same_bits(&some[size_t(row) * kSome], &all[size_t(row * operands.y_stride() + kOutputs - kSome)], kSome))
        << row;
}

TEST(Gemm, RefusesAnInputPreparedForAnotherFormat) {
  const RandomRows w(WeightFormat::bf16, 3, 64, 1), low(WeightFormat::int4, 3, 64, 1);
  Operands operands(2, 64, 3, 1);
  const DeviceRows device_w(w.rows, operands.stream), device_low(low.rows, operands.stream);
  const GemmInput x = operands.room.prepare(operands.stream.get(),
                                            {operands.device_x.data(), 2, 64, operands.x_stride()}, device_w.view());
  EXPECT_THROW(gemm(operands.stream.get(), x, {device_low.view(), nullptr, std::nullopt, {operands.y.data(), 2, 3}}),
               Error);
}

}  // namespace
}  // namespace pleat::cuda
