// The key-value cache's options in the engine: whose bits depend on nothing but the request, and which channels are
// kept.
#include "core/engine/key_channels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "kernels/check.h"
#include "tests/core/engine/run.h"

namespace pleat::test {
namespace {

constexpr int kVocab = 4096;

struct Cache {
  std::optional<DType> dtype;
  double share = 1;
};

LoadOptions load_options(const Cache& cache, int threads = 1) {
  LoadOptions options;
  options.threads = threads;
  options.oversubscribed = true;
  options.engine.kv_dtype = cache.dtype;
  options.engine.key_channels = cache.share;
  options.engine.max_sequences = 20;
  return options;
}

// Logits of a sequence whose first `prompt` tokens are its prompt, `chunk` rows a step.
std::vector<float> run_request(Engine& engine, Communicator& communicator, const std::vector<int32_t>& tokens,
                               int prompt, int chunk) {
  std::vector<float> all;
  for (int begin = 0; begin < int(tokens.size()); begin += chunk) {
    StepPlan plan;
    append_rows(plan, tokens, begin, std::min(int(tokens.size()), begin + chunk), false);
    for (StepRow& row : plan.rows) row.prompt_end = row.position + 1 == prompt;
    const std::vector<float> part = run_step(engine, communicator, plan);
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

std::vector<float> cached_logits(int ranks, const Cache& cache, const std::vector<int32_t>& tokens, int prompt,
                                 int chunk, const std::string& folder = embedded_model(), int threads = 1) {
  std::vector<float> logits;
  with_engine(folder, ranks, load_options(cache, threads),
              [&](Engine& engine, Communicator& c) { logits = run_request(engine, c, tokens, prompt, chunk); });
  return logits;
}

const Cache kCaches[] = {{DType::i8, 1}, {std::nullopt, 0.6}, {DType::i8, 0.6}};

TEST(KeyChannels, NewestTokensBeginAtAPageAndAreAtLeastThirtyTwo) {
  for (int64_t tokens = 0; tokens < 200; ++tokens) {
    const int64_t begin = newest_begin(tokens);
    EXPECT_EQ(begin % kPageTokens, 0);
    EXPECT_TRUE(begin == 0 || (tokens - begin >= 32 && tokens - begin < 48)) << tokens;
    EXPECT_TRUE(begin > 0 || tokens < 48) << tokens;
  }
}

TEST(KeyChannels, LogitsHaveTheSameBitsOnAnyNumberOfRanks) {
  const std::vector<int32_t> tokens = some_tokens(150, 1);
  for (const Cache& cache : kCaches) {
    const std::vector<float> one = cached_logits(1, cache, tokens, 90, 64);
    for (int ranks : {2, 3, 4})
      EXPECT_TRUE(same_bits(one, cached_logits(ranks, cache, tokens, 90, 64))) << ranks << " ranks, " << cache.share;
  }
}

// Query heads that share a key-value head and lie on several ranks, which must tell each other their queries (qwen2: 7
// heads of one group; smollm2: 3 groups of 3); windows and soft caps (gemma2); ALiBi (bloom).
TEST(KeyChannels, RanksAndChunksGiveTheSameBitsInOtherFamiliesToo) {
  const std::vector<int32_t> ids = some_tokens(64, 7);
  std::vector<int32_t> tokens;
  for (const int32_t id : ids) tokens.push_back(id % 256);
  for (const char* family : {"qwen2", "smollm2", "gemma2", "bloom"}) {
    const std::string folder = fixture("families/") + family;
    const Cache cache{DType::i8, 0.5};
    const std::vector<float> one = cached_logits(1, cache, tokens, 21, 64, folder);
    EXPECT_FALSE(same_bits(one, cached_logits(1, {DType::i8, 1}, tokens, 21, 64, folder))) << family;
    for (int ranks : {2, 3, 4})
      EXPECT_TRUE(same_bits(one, cached_logits(ranks, cache, tokens, 21, 64, folder))) << family << ", " << ranks;
    EXPECT_TRUE(same_bits(one, cached_logits(2, cache, tokens, 21, 10, folder))) << family;
  }
}

TEST(KeyChannels, LogitsHaveTheSameBitsInChunksOfAnySizeAndOnThreads) {
  const std::vector<int32_t> tokens = some_tokens(150, 2);
  for (const Cache& cache : kCaches) {
    const std::vector<float> together = cached_logits(1, cache, tokens, 85, 64);
    for (int chunk : {1, 7, 16, 33})
      EXPECT_TRUE(same_bits(together, cached_logits(1, cache, tokens, 85, chunk))) << chunk << ", " << cache.share;
    EXPECT_TRUE(same_bits(together, cached_logits(1, cache, tokens, 85, 50, embedded_model(), 3)));
  }
}

// Neighbours begin, end their prompts and decode at other times, in other slots and pages.
TEST(KeyChannels, ALogitDoesNotDependOnTheBatchOrOnTheSlot) {
  const std::vector<int32_t> tokens = some_tokens(110, 3);
  for (const Cache& cache : kCaches) {
    const std::vector<float> alone = cached_logits(1, cache, tokens, 50, 1);
    with_engine(embedded_model(), 2, load_options(cache), [&](Engine& engine, Communicator& c) {
      for (const int mine : {0, 3}) {
        std::vector<float> logits;
        for (int position = 0; position < 110; ++position) {
          StepPlan plan;
          for (int other = 0; other < 4; ++other) {
            const int shift = other == mine ? 0 : 5 * other + 3;
            append_rows(plan, other == mine ? tokens : some_tokens(140, 10 + other), position + shift,
                        position + shift + 1, false, other * 9);
            plan.rows.back().prompt_end = position + shift + 1 == (other == mine ? 50 : 40 + 7 * other);
          }
          // A neighbour's first rows come all at once.
          if (position == 0) {
            StepPlan before;
            for (int other = 0; other < 4; ++other) {
              if (other == mine) continue;
              append_rows(before, some_tokens(140, 10 + other), 0, 5 * other + 3, false, other * 9);
              before.slots.back() = other;
            }
            run_step(engine, c, before);
          }
          const std::vector<float> all = run_step(engine, c, plan);
          logits.insert(logits.end(), all.begin() + mine * kVocab, all.begin() + (mine + 1) * kVocab);
        }
        EXPECT_TRUE(same_bits(alone, logits)) << "slot " << mine << ", " << cache.share;
      }
    });
  }
}

TEST(KeyChannels, AllChannelsAreTheCacheAsItIsWithoutTheOption) {
  const std::vector<int32_t> tokens = some_tokens(100, 4);
  const std::vector<float> plain = cached_logits(1, {}, tokens, 0, 64);
  EXPECT_TRUE(same_bits(plain, cached_logits(1, {DType::bf16, 1}, tokens, 60, 64)));
  EXPECT_TRUE(same_bits(plain, cached_logits(1, {std::nullopt, 0.9999}, tokens, 60, 64))) << "no channel less";
  EXPECT_FALSE(same_bits(plain, cached_logits(1, {DType::i8, 1}, tokens, 60, 64)));
  EXPECT_FALSE(same_bits(plain, cached_logits(1, {std::nullopt, 0.6}, tokens, 60, 64)));
}

// Up to the first token that is 48 tokens older than a row after the prompt, everything is whole.
TEST(KeyChannels, ThePromptAndTheFirstTokensAfterItSeeWholeKeys) {
  const std::vector<int32_t> tokens = some_tokens(120, 5);
  const std::vector<float> plain = cached_logits(1, {}, tokens, 0, 64);
  for (const int prompt : {3, 20, 47, 80}) {
    const std::vector<float> cut = cached_logits(1, {std::nullopt, 0.5}, tokens, prompt, 33);
    const int64_t whole = std::max(prompt, 47) * int64_t(kVocab);
    EXPECT_TRUE(std::equal(plain.begin(), plain.begin() + whole, cut.begin())) << prompt;
    EXPECT_FALSE(std::equal(plain.begin() + whole, plain.begin() + whole + kVocab, cut.begin() + whole)) << prompt;
  }
}

// Notes each layer's queries, keys, values and outputs of the attention.
class Stages final : public StageObserver {
 public:
  void stage(const char* name, int layer, MatrixView<const float> value) override {
    std::vector<float>& all = values[{name, layer}];
    for (int64_t row = 0; row < value.rows; ++row) all.insert(all.end(), value[row], value[row] + value.cols);
  }
  std::map<std::pair<std::string, int>, std::vector<float>> values;  // [tokens, columns]
};

// The attention of every row of every layer, from its own queries, keys and values: plain loops in double precision
// that choose the channels by the definition.
void expect_defined_attention(const std::string& folder, int prompt, int tokens) {
  LoadOptions options = load_options({std::nullopt, 0.6});
  options.dtype = WeightFormat::f32;
  with_engine(folder, 1, options, [&](Engine& engine, Communicator& c) {
    Stages stages;
    engine.set_observer(&stages);
    std::vector<int32_t> ids = some_tokens(tokens, 6);
    for (int32_t& id : ids) id %= int32_t(engine.blueprint().vocab);
    run_request(engine, c, ids, prompt, 23);
    const Blueprint& b = engine.blueprint();
    const int64_t size = b.head_size, group = b.heads / b.kv_heads, kept = std::llround(0.6 * double(size));
    ASSERT_LT(kept, size);
    for (int layer = 0; layer < b.layers; ++layer) {
      const int64_t window = b.attention[size_t(layer)].window;
      const std::vector<float>&q = stages.values.at({"q", layer}), &k = stages.values.at({"k", layer}),
            &v = stages.values.at({"v", layer}), &y = stages.values.at({"y", layer});
      for (int64_t kv_head = 0; kv_head < b.kv_heads; ++kv_head) {
        const auto q_at = [&](int64_t row, int64_t head) { return &q[size_t((row * b.heads + head) * size)]; };
        const auto cached = [&](const std::vector<float>& x, int64_t row) {
          return &x[size_t((row * b.kv_heads + kv_head) * size)];
        };
        std::vector<double> score(static_cast<size_t>(size));
        for (int64_t i = 0; i < size; ++i) {
          double queries = 0, keys = 0;
          for (int64_t row = std::max(0, prompt - 32) / 16 * 16; row < prompt; ++row)
            for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head)
              queries += double(q_at(row, head)[i]) * q_at(row, head)[i];
          for (int64_t row = 0; row < prompt; ++row) keys += double(cached(k, row)[i]) * cached(k, row)[i];
          score[size_t(i)] = std::sqrt(queries) * std::sqrt(keys);
        }
        std::vector<int64_t> order(static_cast<size_t>(size));
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(),
                         [&](int64_t a, int64_t z) { return score[size_t(a)] > score[size_t(z)]; });
        // f32 sums of at most 16 squares: far apart enough for rounding not to decide
        ASSERT_GT(score[size_t(order[size_t(kept - 1)])], score[size_t(order[size_t(kept)])] * (1 + 1e-5));
        std::vector<bool> is_kept(static_cast<size_t>(size));
        for (int64_t i = 0; i < kept; ++i) is_kept[size_t(order[size_t(i)])] = true;
        for (int64_t row = 0; row < tokens; ++row) {
          const int64_t whole = row < prompt ? 0 : (row + 1 - 32) / 16 * 16;
          const int64_t first = window > 0 ? std::max<int64_t>(0, row - window + 1) : 0;
          for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
            std::vector<double> weight;
            for (int64_t position = first; position <= row; ++position) {
              double sum = 0;
              for (int64_t i = 0; i < size; ++i)
                if (position >= whole || is_kept[size_t(i)]) sum += double(q_at(row, head)[i]) * cached(k, position)[i];
              weight.push_back(sum * b.attention_scale);
            }
            const double highest = *std::max_element(weight.begin(), weight.end());
            double total = 0;
            for (double& w : weight) total += w = std::exp(w - highest);
            for (int64_t i = 0; i < size; ++i) {
              double expected = 0;
              for (int64_t position = first; position <= row; ++position)
                expected += weight[size_t(position - first)] / total * cached(v, position)[i];
              ASSERT_NEAR(y[size_t((row * b.heads + head) * size + i)], expected, 1e-4 * (1 + std::abs(expected)))
                  << "layer " << layer << ", head " << head << ", row " << row;
            }
          }
        }
      }
    }
  });
}

TEST(KeyChannels, AttentionIsThatOfTheChannelsTheDefinitionChooses) {
  expect_defined_attention(embedded_model(), 70, 112);
  expect_defined_attention(fixture("families/smollm2"), 50, 64);
  expect_defined_attention(fixture("families/qwen2"), 20, 64);
}

TEST(KeyChannels, AShareThatIsNoneIsRefused) {
  for (const double share : {0.0, -0.5, 1.5, double(NAN)})
    EXPECT_THROW(with_engine(embedded_model(), 1, load_options({std::nullopt, share}), [](Engine&, Communicator&) {}),
                 Error);
}

}  // namespace
}  // namespace pleat::test
