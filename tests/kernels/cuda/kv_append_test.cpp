#include "kernels/cuda/kv_append.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "../vectors.h"
#include "kernels/cuda/device.h"
#include "kernels/rotary.h"
#include "paged_sequences.h"

namespace pleat::cuda {
namespace {

constexpr int kPositions = 334;
const std::vector<Token> kTokens = {{0, 0}, {1, 15}, {0, 16}, {0, -1}, {1, 14}, {0, 333}};

// Queries, keys and values of a step's rows side by side, as one product leaves them.
struct Step {
  Step(int q_heads, int kv_heads, int head_size, DType dtype, std::vector<Token> tokens = kTokens)
      : q_heads(q_heads),
        head_size(head_size),
        tokens(std::move(tokens)),
        sequences(2, kPositions, kv_heads, head_size, dtype),
        qkv(random_floats(this->tokens.size() * size_t(cols()), 1)) {}

  int64_t cols() const { return int64_t(q_heads + 2 * sequences.cache.kv_heads) * head_size; }
  template <class T>
  MatrixView<T> columns(T* qkv, int64_t begin_head, int64_t heads) const {
    return {qkv + begin_head * head_size, int64_t(tokens.size()), heads * head_size, cols()};
  }
  template <class T>
  MatrixView<T> q(T* qkv) const {
    return columns(qkv, 0, q_heads);
  }
  template <class T>
  MatrixView<T> k(T* qkv) const {
    return columns(qkv, q_heads, sequences.cache.kv_heads);
  }
  template <class T>
  MatrixView<T> v(T* qkv) const {
    return columns(qkv, q_heads + sequences.cache.kv_heads, sequences.cache.kv_heads);
  }

  // Into `sequences` by the CPU's kernels; the rotated queries are in qkv.
  void run_on_cpu(const Rotary& rotary) {
    Context ctx(1, false);
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i].position < 0) continue;
      float* const row = qkv.data() + int64_t(i) * cols();
      const auto one = [](MatrixView<float> view) { return MatrixView<float>(view.data, 1, view.cols, view.stride); };
      const AttentionRow at[] = {sequences.row(tokens[i])};
      if (rotary.dims() > 0) {
        RotaryAngles angles;
        compute_angles(ctx, rotary, at, angles);
        rotate(ctx, rotary, angles, head_size, one(q(row)));
        rotate(ctx, rotary, angles, head_size, one(k(row)));
      }
      append_kv(ctx, one(k(row)), one(v(row)), at, sequences.cache);
    }
  }

  int q_heads, head_size;
  std::vector<Token> tokens;
  PagedSequences sequences;
  std::vector<float> qkv;  // [rows, q_heads + 2 kv_heads, head_size]
};

// The same on a device, with a cache that nothing was stored in.
struct DeviceStep {
  DeviceStep(const Step& step, const Rotary& rotary)
      : cache(step.sequences, stream),
        rows(step.sequences, step.tokens, stream),
        qkv(step.qkv, stream),
        frequency(rotary.frequency, stream),
        rotary{frequency.data(), rotary.dims(), rotary.magnitude, rotary.interleaved} {}

  void enqueue(const Step& step) {
    append_kv(stream.get(), rotary, step.q(qkv.data()), step.k<const float>(qkv.data()),
              step.v<const float>(qkv.data()), rows.rows(), cache.cache);
  }

  Stream stream;
  DeviceCache cache;
  SequenceRows rows;
  DeviceArray<float> qkv, frequency;
  DeviceRotary rotary;
};

TEST(CudaKvAppend, StoresTheBytesThatTheCpuStores) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::i8})
    for (const int head_size : {16, 64, 80, 128, 100, 5})
      for (const int kv_heads : {1, 2, 4}) {
        Step step(4, kv_heads, head_size, dtype);
        const auto k = step.k(step.qkv.data());
        std::fill_n(k[0], head_size, 0.0f);    // a token of zeros
        std::fill_n(k[1], head_size, 1e-38f);  // of numbers that count as such in 8 bits
        std::fill_n(k[2], head_size, -3e38f);  // of the largest
        DeviceStep device(step, {});
        device.enqueue(step);
        const std::vector<float> before = step.qkv;
        step.run_on_cpu({});
        EXPECT_EQ(device.cache.keys.to_host(device.stream), step.sequences.keys) << name_of(dtype) << ' ' << head_size;
        EXPECT_EQ(device.cache.values.to_host(device.stream), step.sequences.values) << name_of(dtype);
        EXPECT_TRUE(same_bits(device.qkv.to_host(device.stream), before));
      }
}

// The scale is NaN on both sides, of whatever bits.
TEST(CudaKvAppend, ATokenWithANumberThatIsNoneHasAScaleThatIsNone) {
  Step step(4, 2, 80, DType::i8);
  step.k(step.qkv.data())[1][3] = NAN;
  DeviceStep device(step, {});
  device.enqueue(step);
  step.run_on_cpu({});
  const std::vector<std::byte> got = device.cache.keys.to_host(device.stream), &expected = step.sequences.keys;
  ASSERT_EQ(got.size(), expected.size());
  for (size_t at = 0; at < got.size(); at += sizeof(float)) {
    float here = 0, there = 0;
    std::memcpy(&here, &got[at], sizeof here);
    std::memcpy(&there, &expected[at], sizeof there);
    ASSERT_TRUE((std::isnan(here) && std::isnan(there)) || std::memcmp(&here, &there, sizeof here) == 0) << at;
  }
}

// Cosines and sines are off by 2 units in the last place on a device and by 1 on the CPU, and three roundings follow on
// both sides: of a pair (a, b), by less than 2^-20 (|a| + |b|).
float rotary_tolerance(const Rotary& rotary, float largest) { return 2 * largest * rotary.magnitude * 0x1p-20f; }

float largest_of(const std::vector<float>& values) {
  float largest = 0;
  for (const float value : values) largest = std::max(largest, std::abs(value));
  return largest;
}

std::vector<Rotary> rotaries() {
  std::vector<Rotary> all(3);
  all[0].frequency = {1.0f, 0.3f, 0.01f, 1e-4f};  // partial: 8 of a head's values
  all[1] = all[0];
  all[1].interleaved = true;
  all[1].magnitude = 1.25f;
  for (int i = 0; i < 40; ++i) all[2].frequency.push_back(std::pow(10000.0f, -float(i) / 40));
  return all;
}

TEST(CudaKvAppend, RotatesQueriesAndKeysAsTheCpuDoes) {
  for (const Rotary& rotary : rotaries()) {
    Step step(7, 2, 80, DType::f32);
    DeviceStep device(step, rotary);
    const float tolerance = rotary_tolerance(rotary, largest_of(step.qkv));
    device.enqueue(step);
    const std::vector<float> before = step.qkv;
    step.run_on_cpu(rotary);
    const std::vector<float> qkv = device.qkv.to_host(device.stream);
    for (size_t i = 0; i < qkv.size(); ++i) {
      const bool is_q = int64_t(i) % step.cols() < step.q_heads * step.head_size;
      if (is_q && int64_t(i) % step.head_size < rotary.dims())
        ASSERT_NEAR(qkv[i], step.qkv[i], tolerance) << "query " << i;
      else
        ASSERT_EQ(qkv[i], before[i]) << "what is not rotated stays";
    }
    const std::vector<std::byte> keys = device.cache.keys.to_host(device.stream);
    for (size_t byte = 0; byte < keys.size(); byte += sizeof(float)) {
      float got, expected;
      std::memcpy(&got, &keys[byte], sizeof got);
      std::memcpy(&expected, &step.sequences.keys[byte], sizeof expected);
      if (std::isnan(expected) && std::isnan(got)) continue;  // nothing was stored there
      ASSERT_NEAR(got, expected, tolerance) << "byte " << byte;
    }
    EXPECT_EQ(device.cache.values.to_host(device.stream), step.sequences.values);
  }
}

// Rounded numbers that a rotation's rounding moves over the middle between two of them are neighbours.
TEST(CudaKvAppend, RoundsRotatedKeysAsTheCpuDoes) {
  const Rotary rotary = rotaries()[1];
  Step bf16_step(1, 2, 80, DType::bf16), i8_step(1, 2, 80, DType::i8);
  for (Step* const step : {&bf16_step, &i8_step}) {
    DeviceStep device(*step, rotary);
    device.enqueue(*step);
    step->run_on_cpu(rotary);
    const std::vector<std::byte> keys = device.cache.keys.to_host(device.stream);
    const KvCache& cache = step->sequences.cache;
    for (const Token& token : step->tokens) {
      if (token.position < 0) continue;
      const int32_t page = step->sequences.row(token).page_table[token.position / kPageTokens];
      const int64_t block = cache.block(page, 1), place = token.position % kPageTokens;
      const std::byte *const got = keys.data() + block, *const expected = step->sequences.keys.data() + block;
      const auto number = [&](const std::byte* of, int64_t i) {
        return cache.dtype == DType::bf16 ? int(reinterpret_cast<const bf16*>(of)[i].bits)
                                          : int(reinterpret_cast<const int8_t*>(of + cache.scale_bytes())[i]);
      };
      for (int64_t i = place * 80; i < place * 80 + 80; ++i) ASSERT_NEAR(number(got, i), number(expected, i), 1);
      if (cache.dtype == DType::i8) {
        const float scale = reinterpret_cast<const float*>(expected)[place];
        ASSERT_NEAR(reinterpret_cast<const float*>(got)[place], scale, scale * 0x1p-19f);
      }
    }
  }
}

TEST(CudaKvAppend, AReplayedGraphReadsPositionsAndPageTablesAnew) {
  const Rotary rotary = rotaries()[2];
  Step step(2, 1, 80, DType::f32, {{0, 5}, {1, 6}});
  const float tolerance = rotary_tolerance(rotary, largest_of(step.qkv));
  DeviceStep device(step, rotary);
  const Graph graph(device.stream, [&] { device.enqueue(step); });
  const std::vector<float> before = step.qkv;
  for (const std::vector<Token>& tokens : {step.tokens, {{1, 333}, {0, -1}}, {{0, 16}, {0, 17}}}) {
    step.tokens = tokens;
    step.qkv = before;
    device.rows.set(tokens, device.stream);
    device.qkv.copy_from(before, device.stream);
    graph.launch(device.stream);
    step.run_on_cpu(rotary);
    const std::vector<float> qkv = device.qkv.to_host(device.stream);
    for (int row = 0; row < 2; ++row)
      for (int64_t i = row * step.cols(); i < row * step.cols() + 2 * 80; ++i)
        ASSERT_NEAR(qkv[size_t(i)], step.qkv[size_t(i)], tolerance) << "query " << i;
    EXPECT_EQ(device.cache.values.to_host(device.stream), step.sequences.values);
  }
}

}  // namespace
}  // namespace pleat::cuda
