// Products with planes against plain loops over the numbers of a file, in the documented order.
#include "kernels/planes.h"

#include <gtest/gtest.h>

#include "kernels/check.h"
#include "planes_fixture.h"
#include "tests/kernels/matmul_fixture.h"

namespace pleat {
namespace {

TEST(Planes, ProductsAreThoseOfTheFilesNumbersBitForBit) {
  for (const PlaneKind& kind : kPlaneKinds)
    for (const int64_t inputs : {320, 77, 1})
      for (const int64_t outputs : {1, 33, 64, 200}) {
        const PlaneFile file(kind.planes, kind.scales, outputs, inputs);
        const PackedMatrix w = file.packed(0, outputs, {0, inputs});
        const std::vector<float> bias = random_floats(outputs, 5), x = random_floats(37 * inputs, 7);
        std::vector<float> expected;
        for (int64_t i = 0; i < 37 * outputs; ++i) {
          double exact = 0, size = 0;
          const float y = file.product(&x[size_t(i / outputs * inputs)], i % outputs, 0, inputs, &exact, &size);
          // s 2^e and a group's term are rounded once each, the sum at every group.
          ASSERT_NEAR(y, exact, size * double(inputs / 64 + 3) * 0x1p-23);
          expected.push_back(y + bias[size_t(i % outputs)]);
        }
        for (Isa isa : isas()) {
          Context ctx(2, true, isa);
          for (int64_t rows : {1, 2, 4, 7, 37}) {
            const std::vector<float> part(x.begin(), x.begin() + rows * inputs);
            ASSERT_EQ(matmul_of(ctx, part, rows, w, bias.data()),
                      std::vector<float>(expected.begin(), expected.begin() + rows * outputs))
                << name_of(isa) << " " << kind.planes << " planes [" << rows << ", " << inputs << "] x " << outputs;
          }
        }
      }
}

TEST(Planes, DequantisedWeightsAreSumsOfScalesAndSigns) {
  for (const PlaneKind& kind : kPlaneKinds) {
    const PlaneFile file(kind.planes, kind.scales, 130, 200);
    const PackedMatrix w = file.packed(0, 130, {0, 200});
    std::vector<float> column(200);
    for (int64_t n = 0; n < 130; ++n) {
      w.column(n, column.data());
      for (int64_t k = 0; k < 200; ++k) ASSERT_EQ(column[size_t(k)], file.unit(n, k) * float(file.weight(n, k)));
    }
  }
}

// Outputs from the middle of a group of 64 on, and several matrices in one, as query, key and value are.
TEST(Planes, AnyOutputsOfAMatrixGiveTheBitsOfAll) {
  Context ctx(2, true);
  for (const PlaneKind& kind : kPlaneKinds) {
    const PlaneFile one(kind.planes, kind.scales, 300, 130, 1), other(kind.planes, kind.scales, 100, 130, 2);
    const std::vector<float> x = random_floats(5 * 130, 7);
    const std::vector<float> all = matmul_of(ctx, x, 5, one.packed(0, 300, {0, 130})),
                             others = matmul_of(ctx, x, 5, other.packed(0, 100, {0, 130}));
    PackedMatrix joined(one.format(), 130, 180, {0, 130});
    one.add_to(joined.planes(), 0, 37, 150, 0, 130);
    other.add_to(joined.planes(), 150, 68, 30, 0, 130);
    const std::vector<float> y = matmul_of(ctx, x, 5, joined);
    for (int64_t row = 0; row < 5; ++row)
      for (int64_t n = 0; n < 180; ++n)
        ASSERT_EQ(y[size_t(row * 180 + n)],
                  n < 150 ? all[size_t(row * 300 + 37 + n)] : others[size_t(row * 100 + 68 + n - 150)])
            << kind.planes << " planes, output " << n;
  }
}

TEST(Planes, LeavesOfRanksGiveTheBitsOfOneRank) {
  Context ctx(2, true);
  for (const PlaneKind& kind : kPlaneKinds) {
    const PlaneFile file(kind.planes, kind.scales, 100, 300);
    const std::vector<float> x = random_floats(3 * 300, 7);
    const std::vector<float> all = nodes_of(ctx, x, 3, file.packed(0, 100, {0, 64, 192, 192, 300}), 0, {{0, 4}});
    std::vector<float> left, right;
    for (int64_t row = 0; row < 3; ++row) {
      left.insert(left.end(), x.begin() + row * 300, x.begin() + row * 300 + 192);
      right.insert(right.end(), x.begin() + row * 300 + 192, x.begin() + (row + 1) * 300);
    }
    const std::vector<float> a = nodes_of(ctx, left, 3, file.packed(0, 100, {0, 64, 192}), 0, {{0, 2}}),
                             b = nodes_of(ctx, right, 3, file.packed(0, 100, {0, 0, 108}, 192), 2, {{2, 4}});
    for (size_t i = 0; i < all.size(); ++i) ASSERT_EQ(all[i], a[i] + b[i]);
  }
}

TEST(Planes, ProtectedInputsAreMultipliedInBf16AndLeftOutOfTheScales) {
  Context ctx(2, true);
  const PlaneFile file(3, PlaneScales::column, 70, 200);
  PackedMatrix w(file.format(), 200, 50, {0, 200});
  file.add_to(w.planes(), 0, 20, 50, 0, 200);
  std::vector<bf16> kept;
  for (float value : random_floats(2 * 50, 5)) kept.push_back(to_bf16(value));
  w.planes().protect({3, 100});
  w.planes().pack_protected(0, 50, kept.data(), 2);
  std::vector<float> x = random_floats(200, 7), rest = x, column(200);
  for (int k : {3, 100}) x[size_t(k)] *= 1000, rest[size_t(k)] = 0;
  const std::vector<float> y = matmul_of(ctx, x, 1, w);
  for (int64_t n = 0; n < 50; ++n) {
    double exact = 0, size = 0;
    float expected = file.product(rest.data(), 20 + n, 0, 200, &exact, &size);
    for (int i = 0; i < 2; ++i) expected += x[i == 0 ? 3 : 100] * to_f32(kept[size_t(n * 2 + i)]);
    ASSERT_EQ(y[size_t(n)], expected);
    w.column(n, column.data());
    ASSERT_EQ(column[100], to_f32(kept[size_t(n * 2 + 1)]));
  }
}

TEST(Planes, RefusesScalesOutOfBounds) {
  const int8_t exponent = 0;
  for (const std::vector<uint8_t>& scales :
       {std::vector<uint8_t>{7, 0}, {8, 0}, {128, 0}, {plane_scale_byte(127), plane_scale_byte(1)}}) {
    PlanesMatrix w(2, 1, 1);
    EXPECT_THROW(w.add(0, 0, 1, PlaneScales::column, scales.data(), &exponent), Error);
  }
}

TEST(Planes, AScaleIsASumOfTwoSignedPowersOfTwo) {
  int values = 0;
  for (int value = 0; value <= kPlaneLimit; ++value) {
    bool is_sum = false;
    for (int i = 0; i <= 7; ++i)
      for (int j = 0; j <= i; ++j) is_sum |= value == (1 << i) + (1 << j) || value == (1 << i) - (1 << j);
    const uint8_t byte = plane_scale_byte(value);
    EXPECT_EQ(byte != 255, is_sum) << value;
    if (is_sum) {
      EXPECT_EQ(plane_scale_value(byte), value);
    }
    values += is_sum;
  }
  EXPECT_EQ(values, 44);  // with 0
}

TEST(Planes, BytesAreThoseOfTheFormat) {
  for (const PlaneKind& kind : kPlaneKinds) {
    const PackedMatrix w = PlaneFile(kind.planes, kind.scales, 128, 256).packed(0, 128, {0, 256});
    EXPECT_EQ(int64_t(w.bytes()), 128 * 256 * kind.planes * 9 / 64 + 2 * 4 * 4);  // and 2^e as a float
    EXPECT_EQ(matrix_bytes(w.format(), 256, 128), 128 * 256 * kind.planes * 9 / 64 + 2 * 4);
  }
}

}  // namespace
}  // namespace pleat
