// The 8-bit cache and compacted keys, against plain loops over the numbers a cache stands for.
#include "kernels/kv_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "kernels/attention.h"
#include "vectors.h"

namespace pleat {
namespace {

// One sequence in slot 1. Keys before `whole_begin` are compacted to every second channel or so.
struct Cached {
  Cached(int64_t tokens, int q_heads, int kv_heads, int head_size, DType dtype, int kept_channels, int64_t whole_begin)
      : tokens(tokens),
        width(head_size),
        q(random_floats(size_t(tokens * q_heads * head_size), 1)),
        k(random_floats(size_t(tokens * kv_heads * head_size), 2)),
        v(random_floats(size_t(tokens * kv_heads * head_size), 3, 3.0f)) {
    cache = {nullptr,       nullptr, dtype, (tokens + kPageTokens - 1) / kPageTokens + 1, kv_heads, head_size,
             kept_channels, nullptr, 192};
    keys.resize(size_t(cache.block(cache.pages, 0)));
    values.resize(keys.size());
    for (int64_t page = 0; page < cache.pages; ++page) page_table.push_back(int32_t(cache.pages - 1 - page));
    for (int head = 0; head < q_heads; ++head) kv_of_head.push_back(head * kv_heads / q_heads);
    std::mt19937 random(7);
    for (int head = 0; head < 2 * kv_heads; ++head) {
      std::vector<int32_t> channels(static_cast<size_t>(head_size));
      std::iota(channels.begin(), channels.end(), 0);
      std::shuffle(channels.begin(), channels.end(), random);
      std::sort(channels.begin(), channels.begin() + kept_channels);
      kept.insert(kept.end(), channels.begin(), channels.begin() + kept_channels);
    }
    for (int64_t position = 0; position < tokens; ++position) rows.push_back({position, page_table.data(), 0, 1});
    this->whole_begin = whole_begin;
    scores.scale = 1.0f / std::sqrt(float(width));
  }

  int64_t q_cols() const { return int64_t(kv_of_head.size()) * width; }

  void fill(Context& ctx) {
    std::fill(keys.begin(), keys.end(), std::byte(0xff));  // NaN of f32 and bf16
    std::fill(values.begin(), values.end(), std::byte(0xff));
    cache.keys = keys.data();
    cache.values = values.data();
    cache.kept = kept.data();
    const int64_t cols = cache.kv_heads * width;
    append_kv(ctx, {k.data(), tokens, cols}, {v.data(), tokens, cols}, rows, cache);
  }

  // The rows that see all of the compacted keys and are not among them, in steps of `chunk`.
  std::vector<float> run(Context& ctx, int64_t chunk) {
    fill(ctx);
    if (whole_begin > 0) {
      const KeyCompaction parts[] = {{page_table.data(), 1, 0, kPageTokens},
                                     {page_table.data(), 1, kPageTokens, whole_begin}};
      compact_keys(ctx, std::span(parts).first(whole_begin > kPageTokens ? 2 : 1), cache);
    }
    std::vector<float> out(size_t((tokens - whole_begin) * q_cols()));
    for (int64_t begin = whole_begin; begin < tokens; begin += chunk) {
      const int64_t count = std::min(chunk, tokens - begin);
      std::vector<AttentionRow> step(rows.begin() + begin, rows.begin() + begin + count);
      for (AttentionRow& row : step) row.whole_begin = whole_begin;
      attention(ctx, {q.data() + begin * q_cols(), count, q_cols()}, step, cache, kv_of_head, scores,
                {out.data() + (begin - whole_begin) * q_cols(), count, q_cols()});
    }
    return out;
  }

  // What the cache holds of x [tokens, kv_heads * width].
  std::vector<double> dequantised(const std::vector<float>& x) const {
    std::vector<double> out(x.size());
    for (size_t token = 0; token < x.size(); token += size_t(width)) {
      float largest = 0;
      for (size_t i = token; i < token + size_t(width); ++i) largest = std::max(largest, std::abs(x[i]));
      for (size_t i = token; i < token + size_t(width); ++i)
        out[i] = cache.dtype == DType::f32    ? x[i]
                 : cache.dtype == DType::bf16 ? rounded_to_bf16(x[i])
                                              : double(std::nearbyint(x[i] * (127 / largest))) * (largest / 127);
    }
    return out;
  }

  int64_t tokens, width, whole_begin = 0;
  std::vector<float> q, k, v;
  std::vector<std::byte> keys, values;
  KvCache cache;
  std::vector<int32_t> page_table, kept;
  std::vector<int> kv_of_head;
  std::vector<AttentionRow> rows;
  AttentionScores scores;
};

struct Shape {
  int q_heads, kv_heads, head_size, kept_channels;
  int64_t whole_begin;
};

const Shape kShapes[] = {{2, 2, 16, 0, 0},   {3, 1, 64, 38, 32}, {4, 2, 80, 48, 48},
                         {2, 1, 20, 19, 16}, {1, 1, 5, 3, 32},   {2, 1, 128, 77, 32}};
constexpr int64_t kTokens = 71;

TEST(KvCache, EightBitsAreWithinHalfAStepOfTheNumber) {
  Context ctx(1, false);
  Cached cached(kTokens, 2, 2, 80, DType::i8, 0, 0);
  std::fill_n(cached.k.begin(), 80, 0.0f);          // a token of zeros
  std::fill_n(cached.k.begin() + 80, 80, 1e-38f);   // and of numbers that count as such
  std::fill_n(cached.k.begin() + 160, 80, -3e38f);  // and of the largest
  cached.fill(ctx);
  for (int64_t position = 0; position < kTokens; ++position)
    for (int head = 0; head < 2; ++head) {
      const int64_t place = position % kPageTokens;
      const std::byte* block = cached.keys.data() + cached.cache.block(cached.page_table[position / kPageTokens], head);
      float scale;
      std::memcpy(&scale, block + place * int64_t(sizeof(float)), sizeof(float));
      const auto* codes = reinterpret_cast<const int8_t*>(block + cached.cache.scale_bytes() + place * 80);
      for (int64_t i = 0; i < 80; ++i) {
        const float x = cached.k[size_t((position * 2 + head) * 80 + i)];
        // three roundings: of 127 / largest, of the product with it, of the scale
        ASSERT_LE(std::abs(x - double(scale) * codes[i]), double(scale) * (0.5 + 127 * 3 * 0x1p-24) + 1e-35)
            << position << ", " << i;
      }
    }
}

TEST(KvCache, AKeyThatIsNoNumberMakesAttentionToItNone) {
  Context ctx(1, false);
  for (const DType dtype : {DType::f32, DType::bf16, DType::i8}) {
    Cached cached(kTokens, 2, 2, 80, dtype, 0, 0);
    cached.k[20 * 160 + 7] = NAN;  // token 20, head 0
    const std::vector<float> out = cached.run(ctx, 16);
    for (int64_t i = 0; i < int64_t(out.size()); ++i)
      ASSERT_EQ(std::isnan(out[size_t(i)]), i / 160 >= 20 && i % 160 < 80) << name_of(dtype) << ", " << i;
  }
}

TEST(KvCache, TakesLittleMoreThanHalfOfBf16sMemoryInEightBits) {
  const KvCache bf16{nullptr, nullptr, DType::bf16, 1, 1, 128}, eight{nullptr, nullptr, DType::i8, 1, 1, 128};
  EXPECT_EQ(bf16.block_bytes(), 16 * 128 * 2);
  EXPECT_EQ(eight.block_bytes(), 16 * (128 + 4));
}

TEST(KvCache, AttentionAgreesWithPlainLoopsInDoubleOverWhatIsCached) {
  for (Isa isa : isas_here())
    for (DType dtype : {DType::f32, DType::bf16, DType::i8})
      for (const Shape& shape : kShapes) {
        Cached cached(kTokens, shape.q_heads, shape.kv_heads, shape.head_size, dtype, shape.kept_channels,
                      shape.whole_begin);
        Context ctx(2, true, isa);
        const std::vector<float> out = cached.run(ctx, kTokens);
        const std::vector<double> keys = cached.dequantised(cached.k), values = cached.dequantised(cached.v);
        const int64_t width = shape.head_size;
        for (int64_t row = shape.whole_begin; row < kTokens; ++row)
          for (int head = 0; head < shape.q_heads; ++head) {
            const int kv_head = cached.kv_of_head[size_t(head)];
            const float* q = cached.q.data() + row * cached.q_cols() + head * width;
            const int32_t* kept = cached.cache.kept_of(1, kv_head);
            const auto at = [&](int64_t position) { return (position * shape.kv_heads + kv_head) * width; };
            std::vector<double> weight;
            for (int64_t position = 0; position <= row; ++position) {
              double sum = 0;
              if (position < shape.whole_begin)
                for (int c = 0; c < shape.kept_channels; ++c) sum += q[kept[c]] * keys[size_t(at(position) + kept[c])];
              else
                for (int64_t i = 0; i < width; ++i) sum += q[i] * keys[size_t(at(position) + i)];
              weight.push_back(sum * cached.scores.scale);
            }
            const double highest = *std::max_element(weight.begin(), weight.end());
            double total = 0;
            for (double& w : weight) total += w = std::exp(w - highest);
            for (int64_t i = 0; i < width; ++i) {
              double expected = 0;
              for (int64_t position = 0; position <= row; ++position)
                expected += weight[size_t(position)] / total * values[size_t(at(position) + i)];
              // as in attention_test.cpp; values are three times as large
              ASSERT_NEAR(out[size_t((row - shape.whole_begin) * cached.q_cols() + head * width + i)], expected, 3e-5)
                  << name_of(isa) << ", " << name_of(dtype) << ", head size " << width << ", row " << row;
            }
          }
      }
}

TEST(KvCache, GivesTheSameBitsInChunksOfAnySizeOnAnyThreadsAndInstructionSet) {
  for (DType dtype : {DType::bf16, DType::i8})
    for (const Shape& shape : kShapes) {
      Cached cached(kTokens, shape.q_heads, shape.kv_heads, shape.head_size, dtype, shape.kept_channels,
                    shape.whole_begin);
      Context plain(1, false, Isa::portable);
      const std::vector<float> reference = cached.run(plain, 1);
      for (Isa isa : isas_here())
        for (int threads : {1, 3}) {
          Context ctx(threads, true, isa);
          for (int64_t chunk : {1, 7, 71})
            EXPECT_TRUE(same_bits(cached.run(ctx, chunk), reference)) << name_of(isa) << ", chunks of " << chunk;
        }
    }
}

TEST(KvCache, KeyEnergiesAreTheSumsOfTheSquaresOfWhatIsCached) {
  for (DType dtype : {DType::f32, DType::bf16, DType::i8}) {
    Cached cached(kTokens, 2, 2, 20, dtype, 0, 0);
    Context ctx(2, true);
    cached.fill(ctx);
    std::vector<double> energies(40), expected(40);
    key_energies(ctx, cached.cache, cached.page_table.data(), 53, energies);
    const std::vector<double> keys = cached.dequantised(cached.k);
    for (size_t i = 0; i < 53 * 40; ++i) expected[i % 40] += keys[i] * keys[i];
    for (size_t i = 0; i < 40; ++i) EXPECT_NEAR(energies[i], expected[i], 1e-6 * expected[i]) << name_of(dtype);
  }
}

}  // namespace
}  // namespace pleat
