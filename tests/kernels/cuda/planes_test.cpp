// Matrices in planes on a device, against plain loops over a file's numbers and against the CPU's products.
#include <gtest/gtest.h>

#include "../low_bit_rows_fixture.h"
#include "../planes_fixture.h"
#include "kernels/cuda/embedding.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/multiply_rows.h"
#include "kernels/cuda/widened_planes.h"

namespace pleat::cuda {
namespace {

// Outputs from the middle of a group of 64 on, and a second matrix behind them, as query, key and value are.
struct Joined {
  static constexpr int kFirst = 37, kCount = 100, kOther = 70, kOutputs = kCount + 30;
  PlaneFile one, other;
  PackedMatrix packed;
  Joined(const PlaneKind& kind, int64_t inputs)
      : one(kind.planes, kind.scales, 160, inputs, 1),
        other(kind.planes, kind.scales, 100, inputs, 2),
        packed(one.format(), inputs, kOutputs, {0, inputs}) {
    one.add_to(packed.planes(), 0, kFirst, kCount, 0, inputs);
    other.add_to(packed.planes(), kCount, kOther, 30, 0, inputs);
  }
  double product(const float* x, int n, double* size) const {
    double exact = 0;
    const bool is_other = n >= kCount;
    const PlaneFile& file = is_other ? other : one;
    file.product(x, is_other ? kOther + n - kCount : kFirst + n, 0, file.inputs, &exact, size);
    return exact;
  }
};

class DevicePlanes : public testing::TestWithParam<PlaneKind> {};

TEST_P(DevicePlanes, ProductsAreThoseOfTheFilesNumbers) {
  const Stream stream;
  struct Size {
    int inputs, rows;
  };
  for (const auto& [inputs, rows] : {Size{1, 1}, {77, 16}, {320, 3}, {2500, 2}}) {
    const Joined w(GetParam(), inputs);
    const std::vector<float> x = random_floats(size_t(rows * inputs), 1), bias = random_floats(Joined::kOutputs, 2);
    const DeviceArray<float> device_x(x, stream), device_bias(bias, stream), y(size_t(rows * Joined::kOutputs));
    const DeviceRows device_w(w.packed, stream);
    QuantisedRows quantised(inputs);
    multiply_rows(stream.get(), quantised.quantise(stream.get(), device_x.data(), rows),
                  {{device_w.view(), device_bias.data(), y.data(), Joined::kOutputs}});
    const std::vector<float> got = y.to_host(stream);
    for (int row = 0; row < rows; ++row)
      for (int n = 0; n < Joined::kOutputs; ++n) {
        double size = 0;
        const double exact = w.product(&x[size_t(row * inputs)], n, &size) + bias[size_t(n)];
        // s 2^e, a group's term, sums of a lane's groups, of lanes and of warps; and the bias.
        const double roundings = double(inputs) / 2048 + 3 + 2 + 8;
        ASSERT_NEAR(got[size_t(row * Joined::kOutputs + n)], exact,
                    size * roundings * 0x1p-24 + std::fabs(exact) * 0x1p-24)
            << inputs << " inputs, row " << row << " of " << rows << ", output " << n;
      }
  }
}

// A leaf has the bits of that leaf in a matrix of other leaves beside it, whichever outputs are held and however many
// rows there are.
TEST_P(DevicePlanes, LeavesHaveTheSameBitsWhoeverHoldsThem) {
  const Stream stream;
  constexpr int kInputs = 700, kRows = 5;
  const PlaneFile file(GetParam().planes, GetParam().scales, 130, kInputs);
  const std::vector<int32_t> offsets = {0, 64, 320, 320, 576, kInputs};
  const std::vector<float> x = random_floats(size_t(kRows * kInputs), 7);
  const DeviceArray<float> device_x(x, stream);
  QuantisedRows quantised(kInputs);
  const auto nodes = [&](int first_row, int rows, int first_output, int outputs, int first_leaf, int leaves) {
    const int begin = offsets[size_t(first_leaf)];
    std::vector<int32_t> mine;
    for (int leaf = first_leaf; leaf <= first_leaf + leaves; ++leaf) mine.push_back(offsets[size_t(leaf)] - begin);
    std::vector<TreeNode> each;
    for (int leaf = 0; leaf < leaves; ++leaf) each.push_back({leaf, leaf + 1});
    const DeviceRows w(file.packed(first_output, outputs, {0, mine.back()}, begin), stream);
    const DeviceLeaves device_leaves(mine, each, 0, stream);
    const DeviceArray<float> y(size_t(leaves * rows * outputs));
    const RowInput in = quantised.quantise(stream.get(), device_x.data() + first_row * kInputs, rows);
    multiply_rows(stream.get(), in, {{w.view(), nullptr, y.data(), outputs, device_leaves.view(), begin}});
    return y.to_host(stream);
  };
  const std::vector<float> all = nodes(0, kRows, 0, 130, 0, 5), some = nodes(2, 1, 70, 40, 3, 2);
  for (int leaf = 0; leaf < 2; ++leaf)
    EXPECT_TRUE(same_bits(&some[size_t(leaf * 40)], &all[size_t(((leaf + 3) * kRows + 2) * 130 + 70)], 40)) << leaf;
  for (int leaf = 0; leaf < 5; ++leaf)
    for (int n = 0; n < 130; ++n) {
      double exact = 0, size = 0;
      file.product(x.data(), n, offsets[size_t(leaf)], offsets[size_t(leaf) + 1], &exact, &size);
      ASSERT_NEAR(all[size_t(leaf * kRows * 130 + n)], exact, size * 6 * 0x1p-24) << leaf;
    }
}

TEST_P(DevicePlanes, WidenedToEightBitsPromptsHaveTheCpusBits) {
  const Stream stream;
  constexpr int kInputs = 300, kRows = 19;
  const Joined w(GetParam(), kInputs);
  const std::vector<float> x = random_floats(size_t(kRows * kInputs), 7);
  const DeviceRows device_w(w.packed, stream);
  const WidenedPlanes room(WidenedPlanes::bytes_of(device_w.view()));
  const Rows wide = room.widen(stream.get(), device_w.view());
  const DeviceArray<float> device_x(x, stream), y(size_t(kRows * Joined::kOutputs));
  GemmRows prepared(kRows, kInputs);
  const MatrixView<const float> in(device_x.data(), kRows, kInputs);
  gemm(stream.get(), prepared.prepare(stream.get(), in, wide),
       {wide, nullptr, std::nullopt, {y.data(), kRows, Joined::kOutputs}});
  Context cpu(1, false);
  std::vector<float> expected(y.size());
  matmul(cpu, {x.data(), kRows, kInputs}, w.packed, nullptr, {expected.data(), kRows, Joined::kOutputs});
  EXPECT_TRUE(same_bits(y.to_host(stream), expected));
}

TEST_P(DevicePlanes, ProtectedInputsAreMultipliedInBf16) {
  const Stream stream;
  constexpr int kInputs = 200, kOutputs = 50;
  const PlaneFile file(GetParam().planes, GetParam().scales, 70, kInputs);
  PackedMatrix w(file.format(), kInputs, kOutputs, {0, kInputs});
  file.add_to(w.planes(), 0, 20, kOutputs, 0, kInputs);
  std::vector<bf16> kept;
  for (float value : random_floats(2 * kOutputs, 5)) kept.push_back(to_bf16(value));
  w.planes().protect({3, 100});
  w.planes().pack_protected(0, kOutputs, kept.data(), 2);
  std::vector<float> x = random_floats(kInputs, 7), rest = x;
  for (int k : {3, 100}) x[size_t(k)] *= 1000, rest[size_t(k)] = 0;
  const DeviceRows device_w(w, stream);
  const Rows view = device_w.view();
  const DeviceArray<float> device_x(x, stream), few(kOutputs), many(kOutputs);
  QuantisedRows quantised(kInputs);
  multiply_rows(stream.get(), quantised.quantise(stream.get(), device_x.data(), 1, view.protected_inputs, 2),
                {{view, nullptr, few.data(), kOutputs}});
  const WidenedPlanes room(WidenedPlanes::bytes_of(view));
  const Rows wide = room.widen(stream.get(), view);
  GemmRows prepared(1, kInputs);
  gemm(stream.get(), prepared.prepare(stream.get(), {device_x.data(), 1, kInputs}, wide),
       {wide, nullptr, std::nullopt, {many.data(), 1, kOutputs}});
  const std::vector<float> got = few.to_host(stream), wide_got = many.to_host(stream);
  for (int n = 0; n < kOutputs; ++n) {
    double exact = 0, size = 0;
    file.product(rest.data(), 20 + n, 0, kInputs, &exact, &size);
    for (int i = 0; i < 2; ++i) {
      const double term = double(x[i == 0 ? 3 : 100]) * to_f32(kept[size_t(n * 2 + i)]);
      exact += term, size += std::fabs(term);
    }
    ASSERT_NEAR(got[size_t(n)], exact, size * 12 * 0x1p-24) << n;
    ASSERT_NEAR(wide_got[size_t(n)], exact, size * 12 * 0x1p-24) << n;
  }
}

TEST(DevicePlaneRows, WidenedToEightBitsAgreeWithPlainLoops) {
  const Stream stream;
  constexpr int kInputs = 300, kOutputs = 21, kRows = 3;
  for (const WeightFormat format : {WeightFormat::planes4, WeightFormat::planes3, WeightFormat::planes2}) {
    const RandomRows w(format, kOutputs, kInputs, 5, {3, 64, kInputs - 1});
    const std::vector<float> x = random_floats(size_t(kRows * kInputs), 7);
    const DeviceRows device_w(w.rows, stream);
    const WidenedPlanes room(WidenedPlanes::bytes_of(device_w.view()));
    const Rows wide = room.widen(stream.get(), device_w.view());
    const DeviceArray<float> device_x(x, stream), y(size_t(kRows * kOutputs));
    GemmRows prepared(kRows, kInputs);
    gemm(stream.get(), prepared.prepare(stream.get(), {device_x.data(), kRows, kInputs}, wide),
         {wide, nullptr, std::nullopt, {y.data(), kRows, kOutputs}});
    const std::vector<float> got = y.to_host(stream);
    for (int row = 0; row < kRows; ++row)
      for (int n = 0; n < kOutputs; ++n) {
        const Near expected = dot(w, &x[size_t(row * kInputs)], n);
        ASSERT_NEAR(got[size_t(row * kOutputs + n)], expected.value, expected.tolerance) << name_of(format) << n;
      }
  }
}

TEST_P(DevicePlanes, AnEmbeddingIsARowsNumbers) {
  const Stream stream;
  constexpr int kInputs = 130;
  const Joined w(GetParam(), kInputs);
  const DeviceRows device_w(w.packed, stream);
  std::vector<float> expected(kInputs);
  const DeviceArray<float> out(kInputs);
  for (const int32_t token : {0, 26, 27, 99, 100, 129}) {
    const DeviceArray<int32_t> ids(std::span(&token, 1), stream);
    embed(stream.get(), 1, kInputs, ids.data(), {device_w.view(), 0, 1}, ids.data(), {}, out.data());
    w.packed.column(token, expected.data());
    EXPECT_TRUE(same_bits(out.to_host(stream), expected)) << token;
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, DevicePlanes, testing::ValuesIn(kPlaneKinds), [](const auto& info) {
  return concat(info.param.planes, info.param.scales == PlaneScales::column ? "_by_column" : "_by_block");
});

}  // namespace
}  // namespace pleat::cuda
