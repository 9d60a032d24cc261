#include "kernels/cuda/embedding.h"

#include <gtest/gtest.h>

#include "../low_bit_rows_fixture.h"
#include "kernels/cuda/device.h"

namespace pleat::cuda {
namespace {

constexpr int kVocab = 50, kPositions = 20, kOffset = 2;
const std::vector<int32_t> kTokens = {0, 49, 7, 7, 31}, kRowPositions = {0, 17, 3, 4, 9};

// A table as the host has it, and on the device in `dtype`.
struct Table {
  Table(size_t count, uint32_t seed, DType dtype_, const Stream& stream)
      : dtype(dtype_), values(random_floats(count, seed)) {
    if (dtype == DType::f32) {
      floats = DeviceArray<float>(values, stream);
      return;
    }
    std::vector<bf16> halves(count);
    for (size_t i = 0; i < count; ++i) {
      halves[i] = to_bf16(values[i]);
      values[i] = to_f32(halves[i]);
    }
    bf16s = DeviceArray<bf16>(halves, stream);
  }
  // Its rows [first, first + count), of d columns.
  Rows rows(int first, int count, int d) const {
    Rows out;
    out.bits = dtype == DType::f32 ? 32 : 16;
    out.stride = d * out.bits / 8;
    out.rows = count;
    out.width = d;
    const void* const data = dtype == DType::f32 ? static_cast<const void*>(floats.data()) : bf16s.data();
    out.data = static_cast<const unsigned char*>(data) + first * out.stride;
    return out;
  }

  DType dtype;
  std::vector<float> values;
  DeviceArray<float> floats;
  DeviceArray<bf16> bf16s;
};

// The rank that has the tokens [first, first + vocab).
std::vector<float> embedded(int d, const Table& table, int first, int vocab, float scale, const Table* positions,
                            const Stream& stream) {
  const DeviceArray<int32_t> token_ids(kTokens, stream), row_positions(kRowPositions, stream);
  const DeviceArray<float> out(kTokens.size() * size_t(d));
  const TokenEmbedding tokens{table.rows(first, vocab, d), first, scale};
  const PositionEmbedding learned = positions != nullptr
                                        ? PositionEmbedding{positions->rows(0, kPositions + kOffset, d), kOffset}
                                        : PositionEmbedding{};
  embed(stream.get(), int(kTokens.size()), d, token_ids.data(), tokens,
        positions != nullptr ? row_positions.data() : nullptr, learned, out.data());
  return out.to_host(stream);
}

// Products and sums round once each, as the device's: the bits are the same.
std::vector<float> expected(int d, const Table& table, float scale, const Table* positions) {
  std::vector<float> out;
  for (size_t row = 0; row < kTokens.size(); ++row)
    for (int i = 0; i < d; ++i) {
      const float value = scale * table.values[size_t(kTokens[row] * d + i)];
      out.push_back(positions != nullptr ? value + positions->values[size_t((kRowPositions[row] + kOffset) * d + i)]
                                         : value);
    }
  return out;
}

TEST(CudaEmbedding, IsTheTokensRowTimesTheScalePlusThePositions) {
  const Stream stream;
  for (const int d : {1, 100, 1000})
    for (const DType dtype : {DType::f32, DType::bf16})
      for (const float scale : {1.0f, 45.254834f}) {
        const Table table(size_t(kVocab * d), 1, dtype, stream);
        for (const DType position_dtype : {DType::f32, DType::bf16}) {
          const Table positions(size_t((kPositions + kOffset) * d), 2, position_dtype, stream);
          EXPECT_TRUE(same_bits(embedded(d, table, 0, kVocab, scale, &positions, stream),
                                expected(d, table, scale, &positions)))
              << name_of(dtype) << " d " << d << " scale " << scale << ", positions " << name_of(position_dtype);
        }
        EXPECT_TRUE(
            same_bits(embedded(d, table, 0, kVocab, scale, nullptr, stream), expected(d, table, scale, nullptr)))
            << name_of(dtype) << " d " << d << " scale " << scale;
      }
}

TEST(CudaEmbedding, OfAnotherRanksTokenIsZero) {
  const Stream stream;
  const int d = 10, first = 7, vocab = 24;  // 31 is the next rank's first
  const Table table(size_t(kVocab * d), 1, DType::f32, stream);
  std::vector<float> only_mine = expected(d, table, 1, nullptr);
  for (size_t i = 0; i < only_mine.size(); ++i)
    if (kTokens[i / d] != 7) only_mine[i] = 0;
  EXPECT_TRUE(same_bits(embedded(d, table, first, vocab, 1, nullptr, stream), only_mine));
}

TEST(CudaEmbedding, OfTheRanksAddsUpToTheWholeBitForBit) {
  const Stream stream;
  const int d = 300;
  const Table table(size_t(kVocab * d), 1, DType::bf16, stream),
      positions(size_t((kPositions + kOffset) * d), 2, DType::f32, stream);
  const std::vector<float> whole = embedded(d, table, 0, kVocab, 1.7f, &positions, stream);
  for (const int split : {1, 8, 32, 49}) {
    std::vector<float> sum = embedded(d, table, 0, split, 1.7f, &positions, stream);
    const std::vector<float> other = embedded(d, table, split, kVocab - split, 1.7f, nullptr, stream);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += other[i];
    EXPECT_TRUE(same_bits(sum, whole)) << "split at " << split;
  }
}

// A head that is the embedding too may be in low bits, with inputs of its own in bf16.
TEST(Embedding, OfATableInLowBitsHasItsWeights) {
  const Stream stream;
  constexpr int kWidth = 130;
  for (const WeightFormat format : kRowFormats) {
    const RandomRows w(format, kVocab, kWidth, 3, {3, 64, kWidth - 1});
    const DeviceRows table(w.rows, stream);
    const DeviceArray<int32_t> token_ids(kTokens, stream);
    const DeviceArray<float> out(kTokens.size() * size_t(kWidth));
    embed(stream.get(), int(kTokens.size()), kWidth, token_ids.data(), {table.view()}, nullptr, {}, out.data());
    const std::vector<float> got = out.to_host(stream);
    for (size_t row = 0; row < kTokens.size(); ++row)
      for (int k = 0; k < kWidth; ++k) {
        const size_t group = size_t(kTokens[row] * w.groups() + k / 64);
        const double tolerance = std::fabs(w.weight(kTokens[row], k)) * 0x1p-22 + std::fabs(w.minimum[group]) * 0x1p-22;
        ASSERT_NEAR(got[row * size_t(kWidth) + size_t(k)], w.weight(kTokens[row], k), tolerance) << name_of(format);
      }
  }
}

}  // namespace
}  // namespace pleat::cuda
