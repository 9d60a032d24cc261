#include "kernels/kv_cache.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/check.h"
#include "kernels/context.h"
#include "kernels/vector_ops.h"

namespace pleat {
namespace {

float number(float value) { return value; }
float number(bf16 value) { return to_f32(value); }
float number(int8_t value) { return float(value); }

// Below it a token's numbers count as zeros: 127 / magnitude would not be finite.
constexpr float kSmallest = 1e-35f;

// Codes are rounded to nearest even: adding 1.5 * 2^23 leaves the integer in the low bits.
void quantise(const float* from, int64_t width, int8_t* codes, float* scale) {
  uint32_t bits = 0;  // of magnitudes, in whose order NaN is the largest
  for (int64_t i = 0; i < width; ++i) bits = std::max(bits, std::bit_cast<uint32_t>(std::abs(from[i])));
  const float largest = std::bit_cast<float>(bits);
  const bool zero = largest < kSmallest;
  const float inverse = zero ? 0 : 127 / largest;
  *scale = zero ? 0 : largest / 127;
  for (int64_t i = 0; i < width; ++i) codes[i] = int8_t(std::bit_cast<uint32_t>(from[i] * inverse + 12582912.0f));
}

template <class Function>
void with_element(DType dtype, Function function) {
  if (dtype == DType::f32) return function(float());
  if (dtype == DType::bf16) return function(bf16());
  PLEAT_ASSERT(dtype == DType::i8, "a cache of ", name_of(dtype));
  function(int8_t());
}

}  // namespace

void append_kv(Context& ctx, MatrixView<const float> k, MatrixView<const float> v, std::span<const AttentionRow> rows,
               KvCache& cache) {
  const int64_t width = cache.head_size;
  PLEAT_ASSERT(k.rows == int64_t(rows.size()) && v.rows == k.rows, k.rows, " keys, ", v.rows, " values, ", rows.size(),
               " rows");
  PLEAT_ASSERT(k.cols == cache.kv_heads * width && v.cols == k.cols, k.cols, " columns for ", cache.kv_heads,
               " heads of ", width);
  const auto to_bf16 = vector_ops(ctx.isa()).to_bf16;
  const auto store = [&](const float* from, void* to, int64_t block, int64_t place) {
    std::byte* const start = static_cast<std::byte*>(to) + block;
    std::byte* const numbers = start + cache.scale_bytes() + place * width * int64_t(size_of(cache.dtype));
    if (cache.dtype == DType::f32)
      std::memcpy(numbers, from, size_t(width) * sizeof(float));
    else if (cache.dtype == DType::bf16)
      to_bf16(from, reinterpret_cast<bf16*>(numbers), width);
    else
      quantise(from, width, reinterpret_cast<int8_t*>(numbers), reinterpret_cast<float*>(start) + place);
  };
  const auto append = [&](int, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t position = rows[row].position;
      const int64_t page = rows[row].page_table[position / kPageTokens];
      for (int head = 0; head < cache.kv_heads; ++head) {
        store(k[row] + head * width, cache.keys, cache.block(page, head), position % kPageTokens);
        store(v[row] + head * width, cache.values, cache.block(page, head), position % kPageTokens);
      }
    }
  };
  if (k.rows * k.cols <= 8192) return append(0, 0, k.rows);
  ctx.team().split(k.rows, append);
}

void key_energies(Context& ctx, const KvCache& cache, const int32_t* page_table, int64_t tokens,
                  std::span<double> out) {
  const int64_t width = cache.head_size;
  PLEAT_ASSERT(int64_t(out.size()) == cache.kv_heads * width, out.size(), " energies");
  ctx.team().each(cache.kv_heads, [&](int, int64_t head) {
    double* const sums = out.data() + head * width;
    std::fill_n(sums, width, 0.0);
    with_element(cache.dtype, [&]<class Element>(Element) {
      for (int64_t position = 0; position < tokens; ++position) {
        const int64_t place = position % kPageTokens;
        const std::byte* const block =
            static_cast<const std::byte*>(cache.keys) + cache.block(page_table[position / kPageTokens], int(head));
        const float scale = cache.dtype == DType::i8 ? reinterpret_cast<const float*>(block)[place] : 1;
        const Element* const key = reinterpret_cast<const Element*>(block + cache.scale_bytes()) + place * width;
        for (int64_t i = 0; i < width; ++i) {
          const double value = double(number(key[i])) * scale;
          sums[i] += value * value;
        }
      }
    });
  });
}

// In place: the channel that goes to place c comes from place c or a later one.
void compact_keys(Context& ctx, std::span<const KeyCompaction> compactions, KvCache& cache) {
  if (compactions.empty()) return;
  const int64_t width = cache.head_size, kept_channels = cache.kept_channels;
  ctx.team().each(int64_t(compactions.size()) * cache.kv_heads, [&](int, int64_t index) {
    const KeyCompaction& job = compactions[size_t(index / cache.kv_heads)];
    const int head = int(index % cache.kv_heads);
    const int32_t* const kept = cache.kept_of(job.slot, head);
    with_element(cache.dtype, [&]<class Element>(Element) {
      for (int64_t block = job.begin / kPageTokens; block < job.end / kPageTokens; ++block) {
        std::byte* const start = static_cast<std::byte*>(cache.keys) + cache.block(job.page_table[block], head);
        Element* const keys = reinterpret_cast<Element*>(start + cache.scale_bytes());
        for (int64_t place = 0; place < kPageTokens; ++place)
          for (int64_t c = 0; c < kept_channels; ++c) keys[place * kept_channels + c] = keys[place * width + kept[c]];
      }
    });
  });
}

}  // namespace pleat
