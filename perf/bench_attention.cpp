// Attention of one token over a long context, by the cache's format and the key channels kept (layers rotate over more
// memory than any cache holds), and of a prompt in one step.
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "bench_kernels.h"
#include "kernels/attention.h"
#include "product_peak.h"

namespace pleat {
namespace {

constexpr int kHeads = 32, kHeadSize = 128;
constexpr int64_t kLeastBytes = int64_t(512) << 20;  // of all layers
constexpr int64_t kNewest = 32;                      // keys that stay whole

// Layers with the same contents.
struct Subject {
  Subject(Context& ctx, DType dtype, double share, int64_t tokens, int kv_heads)
      : position(tokens - 1), kept(size_t(kv_heads * std::llround(share * kHeadSize))) {
    KvCache first;
    first.dtype = dtype;
    first.pages = (tokens + kPageTokens - 1) / kPageTokens;
    first.kv_heads = kv_heads;
    first.head_size = kHeadSize;
    first.kept_channels = int(kept.size()) / kv_heads;
    first.kept = kept.data();
    for (size_t i = 0; i < kept.size(); ++i) {
      const int64_t channel = int64_t(i) % first.kept_channels;
      kept[i] = int32_t(channel * kHeadSize / first.kept_channels);
    }
    page_table.resize(size_t(first.pages));
    std::iota(page_table.begin(), page_table.end(), 0);
    // A page's layers side by side, as in the engine.
    const int64_t half = kv_heads * first.block_bytes();
    const int64_t count = (kLeastBytes + 2 * half * first.pages - 1) / (2 * half * first.pages);
    first.gap = (2 * count - 1) * half;
    memory = Buffer(size_t(2 * half * count * first.pages));
    for (int64_t layer = 0; layer < count; ++layer) {
      layers.push_back(first);
      layers.back().keys = memory.as<std::byte>() + 2 * half * layer;
      layers.back().values = memory.as<std::byte>() + 2 * half * layer + half;
    }
    fill(ctx, layers[0], tokens);
    whole_begin = share < 1 ? (tokens - kNewest) / kPageTokens * kPageTokens : 0;
    const KeyCompaction all{page_table.data(), 0, 0, whole_begin};
    if (whole_begin > 0) compact_keys(ctx, std::span(&all, 1), layers[0]);
    for (int64_t page = 0; page < first.pages; ++page) {
      std::byte* const of_page = memory.as<std::byte>() + first.block(page, 0);
      for (int64_t layer = 1; layer < count; ++layer)
        std::memcpy(of_page + 2 * half * layer, of_page, size_t(2 * half));
    }
    const double token_bytes = double(first.block_bytes()) / kPageTokens;  // of a key, or value, of one head
    const double key_bytes =
        token_bytes - (share < 1 ? double(kHeadSize - first.kept_channels) * double(size_of(dtype)) : 0);
    bytes = kv_heads * (double(tokens) * token_bytes + double(whole_begin) * key_bytes +
                        double(tokens - whole_begin) * token_bytes);
  }

  void fill(Context& ctx, KvCache& cache, int64_t tokens) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> pool(1 << 16);
    for (float& value : pool) value = normal(random);
    std::vector<float> k(size_t(cache.kv_heads * kHeadSize)), v(k.size());
    for (int64_t token = 0; token < tokens; ++token) {
      for (float& value : k) value = pool[random() % pool.size()];
      for (float& value : v) value = pool[random() % pool.size()];
      const AttentionRow row{token, page_table.data()};
      append_kv(ctx, {k.data(), 1, int64_t(k.size())}, {v.data(), 1, int64_t(v.size())}, std::span(&row, 1), cache);
    }
  }

  void run(Context& ctx, const std::vector<float>& q, std::vector<float>& out) {
    std::vector<int> kv_of_head;
    for (int head = 0; head < kHeads; ++head) kv_of_head.push_back(head * layers[0].kv_heads / kHeads);
    AttentionScores scores;
    scores.scale = 1 / std::sqrt(float(kHeadSize));
    const AttentionRow row{position, page_table.data(), whole_begin, 0};
    for (const KvCache& layer : layers)
      attention(ctx, {q.data(), 1, int64_t(q.size())}, std::span(&row, 1), layer, kv_of_head, scores,
                {out.data(), 1, int64_t(out.size())});
  }

  int64_t position, whole_begin = 0;
  Buffer memory;
  std::vector<int32_t> page_table, kept;
  std::vector<KvCache> layers;
  double bytes = 0;  // of one layer that a step reads
};

void decode(benchmark::State& state, DType dtype, double share, int64_t tokens, int kv_heads) {
  Context& ctx = machine().context;
  Subject subject(ctx, dtype, share, tokens, kv_heads);
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  std::vector<float> q(size_t(kHeads * kHeadSize)), out(q.size());
  for (float& value : q) value = normal(random);
  measure_reads(state, subject.bytes * double(subject.layers.size()), [&] { subject.run(ctx, q, out); });
}

// A prompt's tokens, which see those before them: multiplications and additions of its scores and values.
void prompt(benchmark::State& state, int64_t tokens, int head_size) {
  Context& ctx = machine().context;
  KvCache cache;
  cache.dtype = DType::bf16;
  cache.pages = (tokens + kPageTokens - 1) / kPageTokens;
  cache.kv_heads = kHeads;
  cache.head_size = head_size;
  const Buffer memory(size_t(2 * cache.pages * kHeads * cache.block_bytes()));
  cache.keys = memory.as<std::byte>();
  cache.values = memory.as<std::byte>() + memory.bytes() / 2;
  std::vector<int32_t> page_table(size_t(cache.pages));
  std::iota(page_table.begin(), page_table.end(), 0);
  std::vector<int> kv_of_head(kHeads);
  std::iota(kv_of_head.begin(), kv_of_head.end(), 0);
  std::vector<AttentionRow> rows;
  for (int64_t token = 0; token < tokens; ++token) rows.push_back({token, page_table.data(), 0, 0});
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const int64_t cols = int64_t(kHeads) * head_size;
  std::vector<float> q(size_t(tokens * cols)), out(q.size());
  for (float& value : q) value = normal(random);
  const MatrixView<const float> all{q.data(), tokens, cols};
  append_kv(ctx, all, all, rows, cache);
  AttentionScores scores;
  scores.scale = 1 / std::sqrt(float(head_size));
  std::vector<double> times, peaks;
  for ([[maybe_unused]] auto _ : state) {
    peaks.push_back(product_peak(ctx, false));
    const double start = seconds();
    attention(ctx, all, rows, cache, kv_of_head, scores, {out.data(), tokens, cols});
    times.push_back(seconds() - start);
    state.SetIterationTime(times.back());
  }
  const double rate = 2.0 * double(tokens * (tokens + 1) * cols) / median(times);
  state.counters["Gop/s"] = rate / 1e9;
  state.counters["%peak"] = 100 * rate / median(peaks);
}

}  // namespace

void register_attention() {
  for (int head_size : {64, 128})
    add_benchmark("attention/prompt of 512/head size:" + std::to_string(head_size), 7,
                  [=](benchmark::State& state) { prompt(state, 512, head_size); });
  for (int kv_heads : {32, 8})
    for (DType dtype : {DType::bf16, DType::i8})
      for (double share : {1.0, 0.6}) {
        const std::string name = std::string("attention/") + (dtype == DType::bf16 ? "bf16" : "int8") +
                                 "/kv_heads:" + std::to_string(kv_heads) + (share < 1 ? "/key channels 0.6" : "");
        add_benchmark(name, 7, [=](benchmark::State& state) { decode(state, dtype, share, 4096, kv_heads); });
      }
}

}  // namespace pleat
