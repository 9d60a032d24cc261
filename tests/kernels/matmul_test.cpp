#include "kernels/matmul.h"

#include <gtest/gtest.h>

#include "kernels/check.h"
#include "kernels/matmul_tile.h"
#include "tests/kernels/matmul_fixture.h"

namespace pleat {
namespace {

TEST(Matmul, EqualsPlainLoopsForEveryFormatSizeAndInstructionSet) {
  for (Isa isa : isas()) {
    Context ctx(2, true, isa);
    for (WeightFormat format : kFormats) {
      for (int64_t inputs : {320, 77, 1}) {
        for (int64_t outputs : {1, 33, 96, 200}) {
          const RandomWeights w(format, inputs, outputs, {0, inputs});
          const std::vector<float> bias = random_floats(outputs, 5);
          for (int64_t rows : {1, 2, 5, 12, 13, 33}) {
            const std::vector<float> x = random_floats(rows * inputs, 7);
            const std::vector<double> activations = activations_of(w, x);
            const std::vector<float> y = matmul_of(ctx, x, rows, w.packed, bias.data());
            for (int64_t i = 0; i < rows * outputs; ++i) {
              const Expected expected = expect(w, &activations[i / outputs * inputs], i % outputs, 0, inputs, 2);
              ASSERT_NEAR(y[i], expected.value + bias[i % outputs], expected.tolerance)
                  << name_of(isa) << " " << name_of(format) << " [" << rows << ", " << inputs << "] x [" << inputs
                  << ", " << outputs << "] at " << i;
            }
          }
        }
      }
    }
  }
}

TEST(Matmul, RowHasTheSameBitsAloneAndInEveryBatch) {
  for (Isa isa : isas()) {
    Context ctx(2, true, isa);
    for (WeightFormat format : kFormats) {
      const int64_t inputs = 333, outputs = 130, most = 40;
      const RandomWeights w(format, inputs, outputs, {0, inputs});
      const std::vector<float> x = random_floats(most * inputs, 3);
      std::vector<float> alone;
      for (int64_t row = 0; row < most; ++row) {
        const std::vector<float> one(x.begin() + row * inputs, x.begin() + (row + 1) * inputs);
        const std::vector<float> y = matmul_of(ctx, one, 1, w.packed);
        alone.insert(alone.end(), y.begin(), y.end());
      }
      for (int64_t rows = 2; rows <= most; ++rows) {
        const std::vector<float> y = matmul_of(ctx, x, rows, w.packed);
        ASSERT_EQ(y, std::vector<float>(alone.begin(), alone.begin() + rows * outputs))
            << name_of(isa) << " " << name_of(format) << " in a batch of " << rows;
      }
    }
  }
}

TEST(Matmul, RowOfAPromptHasTheSameBitsAlone) {
  for (Isa isa : isas()) {
    for (WeightFormat format : {WeightFormat::f32, WeightFormat::bf16}) {
      const int64_t inputs = 1151, outputs = 330, rows = 97;  // blocks of inputs, groups of panels, a part of a panel
      const RandomWeights w(format, inputs, outputs, {0, inputs});
      const std::vector<float> x = random_floats(rows * inputs, 3), bias = random_floats(outputs, 5);
      std::vector<float> alone;
      Context ctx(1, true, isa);
      for (int64_t row = 0; row < rows; ++row) {
        const std::vector<float> one(x.begin() + row * inputs, x.begin() + (row + 1) * inputs);
        const std::vector<float> y = matmul_of(ctx, one, 1, w.packed, bias.data());
        alone.insert(alone.end(), y.begin(), y.end());
      }
      for (int threads : {1, 2, 3, 16}) {
        Context team(threads, true, isa);
        ASSERT_EQ(matmul_of(team, x, rows, w.packed, bias.data()), alone)
            << name_of(isa) << " " << name_of(format) << " " << threads << " threads";
      }
    }
  }
}

TEST(Matmul, BitsDoNotDependOnTheNumberOfThreads) {
  for (Isa isa : isas()) {
    Context one(1, true, isa), two(2, true, isa), three(3, true, isa);
    for (WeightFormat format : kFormats) {
      const RandomWeights w(format, 1500, 161, {0, 1500});
      for (int64_t rows : {1, 3, 30}) {  // 30 rows: enough for the activations to be converted by the whole team
        const std::vector<float> x = random_floats(rows * 1500, 3);
        const std::vector<float> y = matmul_of(one, x, rows, w.packed);
        EXPECT_EQ(y, matmul_of(two, x, rows, w.packed)) << name_of(isa) << " " << name_of(format) << " " << rows;
        EXPECT_EQ(y, matmul_of(three, x, rows, w.packed)) << name_of(isa) << " " << name_of(format) << " " << rows;
      }
    }
  }
}

// Numbers of 8 bits know no NaN: the group's scale has to be one.
TEST(Matmul, AnInputThatIsNoNumberMakesItsRowNone) {
  for (Isa isa : isas()) {
    Context ctx(1, true, isa);
    for (WeightFormat format : kFormats) {
      const RandomWeights w(format, 200, 37, {0, 200});
      for (const int64_t odd : {0, 63, 130, 199}) {
        std::vector<float> x = random_floats(2 * 200, 3);
        x[odd] = odd == 63 ? INFINITY : NAN;
        const std::vector<float> y = matmul_of(ctx, x, 2, w.packed);
        for (size_t i = 0; i < y.size(); ++i)
          ASSERT_EQ(std::isfinite(y[i]), i >= 37) << name_of(isa) << " " << name_of(format) << " " << odd << ", " << i;
      }
    }
  }
}

TEST(Matmul, ReadsAndWritesOnlyTheViewsColumns) {
  Context ctx(2, true);
  for (WeightFormat format : kFormats) {
    const RandomWeights w(format, 65, 37, {0, 65});
    for (int64_t rows : {1, 14}) {
      const std::vector<float> x = random_floats(rows * 65, 3);
      std::vector<float> wide_x(rows * 70, NAN), wide_y(rows * 50, 42.0f);
      for (int64_t i = 0; i < rows * 65; ++i) wide_x[i / 65 * 70 + i % 65] = x[i];
      matmul(ctx, {wide_x.data(), rows, 65, 70}, w.packed, nullptr, {wide_y.data(), rows, 37, 50});
      const std::vector<float> y = matmul_of(ctx, x, rows, w.packed);
      for (int64_t i = 0; i < rows * 50; ++i) {
        ASSERT_EQ(wide_y[i], i % 50 < 37 ? y[i / 50 * 37 + i % 50] : 42.0f) << name_of(format) << " " << i;
      }
    }
  }
}

// The dot-product kernels are used on some processors only, but run on all that have the instruction.
TEST(Matmul, Bf16DotProductsGiveARowTheSameBitsInEveryTile) {
  if (detect_isa() < Isa::avx512 || !__builtin_cpu_supports("avx512bf16")) GTEST_SKIP() << "needs AVX512-BF16";
  const TileKernels& kernels = tile_kernels_avx512_dot();
  const int64_t pairs = 75, outputs = 2 * kColumnBlock;
  const std::vector<float> w = random_floats(2 * pairs * outputs, 1), x = random_floats(2 * pairs, 2);
  std::vector<bf16> packed(w.size());  // [2 panels][pairs][32][2]
  for (size_t i = 0; i < w.size(); ++i) packed[i] = to_bf16(w[i]);
  const int64_t panel = pairs * kColumnBlock * 2;
  const std::byte* weights = reinterpret_cast<const std::byte*>(packed.data());

  std::vector<float> expected;
  for (int rows = 1; rows <= kernels.max_rows; ++rows) {
    std::vector<bf16> tile;  // [pairs][rows][2], the same row everywhere
    for (int64_t i = 0; i < pairs * rows * 2; ++i) tile.push_back(to_bf16(x[i / (2 * rows) * 2 + i % 2]));
    std::vector<float> out(rows * outputs);
    for (int half = 0; half < 2; ++half) {
      std::vector<float> one(rows * kColumnBlock);
      kernels.one[1][rows]({tile.data(), weights + half * panel * 2, 0, 2 * pairs, one.data()});
      for (int64_t i = 0; i < rows * kColumnBlock; ++i) {
        out[i / kColumnBlock * outputs + half * kColumnBlock + i % kColumnBlock] = one[i];
      }
    }
    if (rows == 1) expected = out;
    for (int row = 0; row < rows; ++row) {
      ASSERT_EQ(std::vector<float>(out.begin() + row * outputs, out.begin() + (row + 1) * outputs), expected) << rows;
    }
    if (rows > kernels.max_pair_rows) continue;
    std::vector<float> both(rows * outputs);
    kernels.pair[1][rows]({tile.data(), weights, panel * 2, 2 * pairs, both.data()});
    ASSERT_EQ(both, out) << rows;
  }
  for (int64_t n = 0; n < outputs; ++n) {
    double sum = 0;
    for (int64_t k = 0; k < 2 * pairs; ++k) {
      const bf16 weight = packed[n / kColumnBlock * panel + (k / 2 * kColumnBlock + n % kColumnBlock) * 2 + k % 2];
      sum += double(to_f32(to_bf16(x[k]))) * to_f32(weight);
    }
    EXPECT_NEAR(expected[n], sum, double(2 * pairs) * double(2 * pairs) * 0x1p-23) << n;  // terms are at most 1
  }
}

TEST(Matmul, FusedProcessorsOfBothVectorLengthsGiveTheSameBits) {
  if (detect_isa() < Isa::avx512) GTEST_SKIP() << "needs both";
  Context narrow(1, true, Isa::avx2), wide(1, true, Isa::avx512);
  for (WeightFormat format : kFormats) {
    if (format == WeightFormat::bf16) continue;
    const RandomWeights w(format, 200, 65, {0, 200});
    const std::vector<float> x = random_floats(7 * 200, 3);
    EXPECT_EQ(matmul_of(narrow, x, 7, w.packed), matmul_of(wide, x, 7, w.packed)) << name_of(format);
  }
}

TEST(PackedMatrix, BlocksOfEitherOrderAndAnyFloatTypeLandWhereOneBigBlockDoes) {
  Context ctx(1, true);
  const int64_t inputs = 650, outputs = 140;
  const std::vector<int64_t> leaves{0, 7, 7, 20, 650};
  for (WeightFormat format : {WeightFormat::f32, WeightFormat::bf16}) {
    const RandomWeights whole(format, inputs, outputs, leaves);
    std::vector<float> transposed(inputs * outputs);
    std::vector<bf16> rounded(inputs * outputs), both(inputs * outputs);
    for (int64_t i = 0; i < inputs * outputs; ++i) {
      transposed[i % outputs * inputs + i / outputs] = whole.values[i];
      rounded[i] = both[i % outputs * inputs + i / outputs] = to_bf16(whole.values[i]);
    }
    PackedMatrix pieces(format, inputs, outputs, leaves);
    int piece = 0;
    for (int64_t n = 0; n < outputs; n += 70) {
      for (int64_t k = 0; k < inputs; k += 325, ++piece) {
        const WeightBlock blocks[] = {{&transposed[n * inputs + k], DType::f32, 325, 70, 1, inputs},
                                      {&whole.values[k * outputs + n], DType::f32, 325, 70, outputs, 1},
                                      {&rounded[k * outputs + n], DType::bf16, 325, 70, outputs, 1},
                                      {&both[n * inputs + k], DType::bf16, 325, 70, 1, inputs}};
        pieces.pack(k, n, blocks[format == WeightFormat::bf16 ? piece : piece % 2]);
      }
    }
    const std::vector<float> x = random_floats(3 * inputs, 3);
    EXPECT_EQ(nodes_of(ctx, x, 3, pieces, 0, {{0, 4}}), nodes_of(ctx, x, 3, whole.packed, 0, {{0, 4}}));
  }
}

TEST(PackedMatrix, BytesAreThoseOneProductStreams) {
  EXPECT_EQ(PackedMatrix(WeightFormat::bf16, 100, 64, {0, 33, 100}).bytes(), size_t((34 + 68) * 64 * 2));
  EXPECT_EQ(PackedMatrix(WeightFormat::f32, 100, 33, {0, 100}).bytes(), size_t(100 * 64 * 4));
  EXPECT_EQ(PackedMatrix(WeightFormat::int8, 128, 32, {0, 64, 128}).bytes(), size_t(128 * 32 + 2 * 32 * 2));
  EXPECT_EQ(PackedMatrix(WeightFormat::int3, 128, 32, {0, 64, 128}).bytes(), size_t(128 * 32 * 3 / 8 + 2 * 32 * 4));
}

TEST(PackedMatrix, GivesAnOutputsWeightsBack) {
  for (WeightFormat format : kFormats) {
    const RandomWeights w(format, 200, 65, {0, 128, 200});
    std::vector<float> column(200);
    for (int64_t n : {0, 17, 64}) {
      w.packed.column(n, column.data());
      for (int64_t k = 0; k < 200; ++k) ASSERT_EQ(column[k], w.values[k * 65 + n]) << name_of(format) << " " << k;
    }
  }
}

// Leaves of any length: in bf16 an odd one ends in half a word.
TEST(PackedMatrix, GivesItsOutputsBackAsRows) {
  const std::vector<int64_t> leaves = {0, 1, 68, 68, 133, 200};
  for (WeightFormat format : {WeightFormat::f32, WeightFormat::bf16}) {
    const RandomWeights w(format, 200, 77, leaves);
    const int64_t element = bits_of(format) / 8, stride = 200 * element + 8;
    for (const auto& [first, count] : {std::pair{0, 77}, {5, 40}, {31, 2}, {76, 1}}) {
      std::vector<std::byte> rows(size_t(count * stride), std::byte(0xee));
      w.packed.rows(first, count, rows.data(), stride);
      for (int64_t i = 0; i < count; ++i) {
        const std::byte* const row = &rows[size_t(i * stride)];
        for (int64_t k = 0; k < 200; ++k) {
          const float value =
              element == 4 ? reinterpret_cast<const float*>(row)[k] : to_f32(reinterpret_cast<const bf16*>(row)[k]);
          ASSERT_EQ(value, w.values[size_t(k * 77 + first + i)]) << name_of(format) << " " << first + i << " " << k;
        }
        for (int64_t at = 200 * element; at < stride; ++at) ASSERT_EQ(row[at], std::byte(0xee)) << at;
      }
    }
  }
}

TEST(PackedMatrix, RefusesTypesThatDoNotFitTheFormat) {
  const std::vector<int8_t> codes(64);
  PackedMatrix w(WeightFormat::bf16, 8, 8, {0, 8});
  EXPECT_THROW(w.pack(0, 0, {codes.data(), DType::i8, 8, 8, 8, 1}), Error);
  EXPECT_THROW(w.pack(1, 0, {codes.data(), DType::bf16, 8, 2, 2, 1}), Error);  // outside
}

}  // namespace
}  // namespace pleat
