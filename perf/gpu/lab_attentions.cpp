// Attention of generated tokens and of prompts over a paged cache that append_kv() filled.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/kv_append.h"
#include "kernels/cuda/prefill_attention.h"
#include "lab_matrix.h"

namespace pleat::lab {
namespace {

struct Sizes {
  int heads, kv_heads, head_size, context, sequences;
};

// Sequences of `context` tokens, their pages one after the other.
struct Cached {
  Cached(Lab& lab, const Sizes& sizes, DType dtype)
      : lab(lab),
        sizes(sizes),
        width(sizes.kv_heads * sizes.head_size),
        table_pages((sizes.context + kPageTokens - 1) / kPageTokens),
        k(random_values(size_t(sizes.sequences * sizes.context * width), 1)),
        v(random_values(k.size(), 2)),
        device_k(k, lab.stream()),
        device_v(v, lab.stream()) {
    cache = {nullptr, nullptr, dtype, int64_t(sizes.sequences) * table_pages, sizes.kv_heads, sizes.head_size};
    const size_t bytes = size_t(cache.pages * cache.kv_heads * cache.block_bytes());
    keys = cuda::DeviceArray<std::byte>(bytes);
    values = cuda::DeviceArray<std::byte>(bytes);
    cache.keys = keys.data();
    cache.values = values.data();
    std::vector<int32_t> pages(size_t(sizes.sequences * table_pages));
    std::iota(pages.begin(), pages.end(), 0);
    tables = {std::span<const int32_t>(pages), lab.stream()};
    for (int head = 0; head < sizes.heads; ++head) kv_of_head.push_back(head * sizes.kv_heads / sizes.heads);
    scores.scale = 1 / std::sqrt(float(sizes.head_size));
  }

  // As it is in the cache; x: k or v.
  double cached(const std::vector<float>& x, int sequence, int position, int kv_head, int channel) const {
    const float* const head = &x[size_t((sequence * sizes.context + position) * width + kv_head * sizes.head_size)];
    if (cache.dtype == DType::f32) return head[channel];
    if (cache.dtype == DType::bf16) return to_f32(to_bf16(head[channel]));
    float highest = 0;
    for (int i = 0; i < sizes.head_size; ++i) highest = std::max(highest, std::fabs(head[i]));
    const float scale = highest / 127;
    return double(scale) * std::nearbyint(head[channel] / scale);
  }

  // One head of a query at a position that sees all before it.
  std::vector<double> attended(const float* q, int sequence, int position, int head) const {
    const int kv_head = kv_of_head[size_t(head)];
    std::vector<double> weights, out(size_t(sizes.head_size), 0.0);
    for (int at = 0; at <= position; ++at) {
      double score = 0;
      for (int i = 0; i < sizes.head_size; ++i) score += double(q[i]) * cached(k, sequence, at, kv_head, i);
      weights.push_back(score * double(scores.scale));
    }
    const double highest = *std::max_element(weights.begin(), weights.end());
    double total = 0;
    for (double& weight : weights) total += weight = std::exp(weight - highest);
    for (int at = 0; at <= position; ++at)
      for (int i = 0; i < sizes.head_size; ++i)
        out[size_t(i)] += weights[size_t(at)] / total * cached(v, sequence, at, kv_head, i);
    return out;
  }

  Lab& lab;
  Sizes sizes;
  int width, table_pages;
  std::vector<float> k, v;
  cuda::DeviceArray<float> device_k, device_v;
  cuda::DeviceArray<std::byte> keys, values;
  cuda::DeviceArray<int32_t> tables;
  KvCache cache;
  std::vector<int> kv_of_head;
  AttentionScores scores;
};

// Rows of a step: sequence and position of each.
struct Queries {
  Queries(const Cached& cached, std::vector<int32_t> sequence_of, std::vector<int32_t> positions_of)
      : count(int(positions_of.size())),
        width(cached.sizes.heads * cached.sizes.head_size),
        sequences(std::move(sequence_of)),
        positions(std::move(positions_of)),
        q(random_values(size_t(count * width), 3)),
        device_sequences(sequences, cached.lab.stream()),
        device_positions(positions, cached.lab.stream()),
        device_q(q, cached.lab.stream()),
        out(q.size()) {
    rows = {count, device_positions.data(), device_sequences.data(), cached.tables.data(), cached.table_pages};
  }
  MatrixView<const float> in() const { return {device_q.data(), count, width}; }
  MatrixView<float> result() const { return {out.data(), count, width}; }

  // The last row's first and last head.   off: at most, of values below 1, their mean over the positions
  std::string check(const Cached& cached, double off = 2e-5) const {
    const std::vector<float> got = out.to_host(cached.lab.stream());
    for (const int head : {0, cached.sizes.heads - 1}) {
      const size_t at = size_t((count - 1) * width + head * cached.sizes.head_size);
      const std::vector<double> expected = cached.attended(&q[at], sequences.back(), positions.back(), head);
      for (size_t i = 0; i < expected.size(); ++i)
        if (!(std::fabs(got[at + i] - expected[i]) <= off))
          return concat("head ", head, ", channel ", i, " is ", got[at + i], ", expected ", expected[i]);
    }
    return "";
  }

  int count, width;
  std::vector<int32_t> sequences, positions;
  std::vector<float> q;
  cuda::DeviceArray<int32_t> device_sequences, device_positions;
  cuda::DeviceArray<float> device_q, out;
  cuda::PagedRows rows;
};

std::string shape_of(const Cached& cached, int rows) {
  const Sizes& s = cached.sizes;
  return concat(name_of(cached.cache.dtype), " cache, ", s.heads, "/", s.kv_heads, " heads of ", s.head_size, ", ",
                rows, rows == 1 ? " row" : " rows", " at ", s.context);
}

// Fills the cache, all of a sequence in one call.
void append(Lab& lab, Cached& cached) {
  const Sizes& s = cached.sizes;
  std::vector<int32_t> positions(size_t(s.context));
  std::iota(positions.begin(), positions.end(), 0);
  for (int sequence = s.sequences - 1; sequence >= 0; --sequence) {
    const Queries all(cached, std::vector<int32_t>(positions.size(), sequence), positions);
    const MatrixView<float> q(all.device_q.data(), all.count, all.width);
    const int64_t first = int64_t(sequence) * s.context * cached.width;
    const MatrixView<const float> k(cached.device_k.data() + first, s.context, cached.width),
        v(cached.device_v.data() + first, s.context, cached.width);
    const auto call = [&](cuda::StreamHandle stream, int) {
      cuda::append_kv(stream, {}, q, k, v, all.rows, cached.cache);
    };
    call(lab.stream().get(), 0);
    lab.stream().wait();
    if (sequence > 0) continue;
    lab.measure({.kernel = "append_kv",
                 .shape = shape_of(cached, s.context),
                 .bytes = 2.0 * s.context * cached.width * double(4 + size_of(cached.cache.dtype)),
                 .check = [] { return std::string(); },  // attention reads what it wrote
                 .call = call});
  }
}

// One token, rotated, to a page of its own.
void append_one(Lab& lab, Cached& cached) {
  const Sizes& s = cached.sizes;
  std::vector<float> frequencies(size_t(s.head_size / 2));
  for (size_t i = 0; i < frequencies.size(); ++i)
    frequencies[i] = std::pow(1e4f, -float(i) / float(frequencies.size()));
  const cuda::DeviceArray<float> frequency(frequencies, lab.stream());
  std::vector<float> last(cached.k.end() - cached.width, cached.k.end());
  const cuda::DeviceArray<float> k(last, lab.stream()), v(last, lab.stream());
  KvCache other = cached.cache;
  other.pages = 1;
  const size_t bytes = size_t(other.kv_heads * other.block_bytes());
  const cuda::DeviceArray<std::byte> keys(bytes), values(bytes);
  other.keys = keys.data();
  other.values = values.data();
  const Queries one(cached, {0}, {kPageTokens - 1});
  lab.measure({.kernel = "append_kv",
               .shape = shape_of(cached, 1),
               .bytes = 2.0 * cached.width * double(4 + size_of(cached.cache.dtype)) + 8.0 * one.width,
               .check = [] { return std::string(); },
               .call =
                   [&](cuda::StreamHandle stream, int) {
                     cuda::append_kv(stream, {frequency.data(), s.head_size, 1, false},
                                     {one.device_q.data(), 1, one.width}, {k.data(), 1, cached.width},
                                     {v.data(), 1, cached.width}, one.rows, other);
                   }});
}

void decode(Lab& lab, const Cached& cached, int count) {
  const Sizes& s = cached.sizes;
  std::vector<Queries> calls;  // of sequences in turn, as a step's layers each read others
  for (int first = 0; first + count <= s.sequences || first == 0; first += count) {
    std::vector<int32_t> sequences;
    for (int row = 0; row < count; ++row) sequences.push_back((first + row) % s.sequences);
    calls.emplace_back(cached, sequences, std::vector<int32_t>(size_t(count), s.context - 1));
  }
  const cuda::DeviceArray<float> work(cuda::attention_work(count, s.heads, s.head_size, s.context));
  lab.measure({.kernel = "attention",
               .shape = shape_of(cached, count),
               .bytes = 2.0 * double(std::min(count, s.sequences)) * s.context * s.kv_heads *
                        double(cached.cache.block_bytes()) / kPageTokens,
               .check = [&] { return calls[0].check(cached); },
               .call =
                   [&](cuda::StreamHandle stream, int call) {
                     const Queries& queries = calls[size_t(call) % calls.size()];
                     cuda::attention(stream, queries.in(), queries.rows, cached.cache, cached.kv_of_head, cached.scores,
                                     s.context, work.data(), queries.result());
                   }});
}

// The context's last `count` tokens as a prompt's chunk.
void prefill(Lab& lab, const Cached& cached, int count) {
  const Sizes& s = cached.sizes;
  std::vector<int32_t> positions(static_cast<size_t>(count));
  std::iota(positions.begin(), positions.end(), s.context - count);
  const Queries queries(cached, std::vector<int32_t>(positions.size(), 0), positions);
  const bool by_flash_infer = cuda::attends_by_flash_infer(cached.cache, cached.scores);  // in bf16
  const cuda::DeviceArray<float> work(cuda::prefill_attention_work(count, s.heads, s.head_size));
  lab.measure({.kernel = "prefill_attention",
               .shape = shape_of(cached, count),
               .bytes = 2.0 * s.context * s.kv_heads * double(cached.cache.block_bytes()) / kPageTokens +
                        8.0 * count * queries.width,
               .flops = 4.0 * count * (s.context - count / 2.0) * queries.width,
               .check = [&] { return queries.check(cached, by_flash_infer ? 4e-3 : 2e-5); },
               .call =
                   [&](cuda::StreamHandle stream, int) {
                     cuda::prefill_attention(stream, queries.in(), queries.rows, cached.cache, cached.kv_of_head,
                                             cached.scores, work.data(), queries.result());
                   }});
}

}  // namespace

void attentions(Lab& lab) {
  const int context = lab.size(2048, 150);
  for (const DType dtype : {DType::f32, DType::bf16, DType::i8})
    for (const Sizes& sizes : {Sizes{32, 8, lab.size(128, 16), context, lab.size(16, 2)},
                               Sizes{71, 1, lab.size(64, 16), context, lab.size(160, 2)}}) {  // beyond any cache
      if (dtype == DType::f32 && sizes.kv_heads == 1) continue;  // one shape of what has no tensor cores
      Cached cached(lab, sizes, dtype);
      append(lab, cached);
      append_one(lab, cached);
      for (const int rows : {1, lab.size(16, 3)}) decode(lab, cached, rows);
      prefill(lab, cached, lab.size(512, 21));
    }
}

}  // namespace pleat::lab
