#pragma once
// A model made of hashes behind a batcher: its logits depend on every token a sequence has, on whether its row was
// folded, and on nothing else. The fake cache is paged, so a page lent twice or a wrong table changes a text.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "core/engine/batcher.h"
#include "kernels/attention.h"
#include "tests/core/engine/byte_tokenizer.h"
#include "tests/core/engine/row_candidates.h"

namespace pleat::test {

inline uint64_t mix(uint64_t a, uint64_t b) {
  uint64_t x = (a ^ b * 0x9E3779B97F4A7C15) + 0x632BE59BD9B4E019;
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
  x = (x ^ x >> 27) * 0x94D049BB133111EB;
  return x ^ x >> 31;
}

// Mostly a, b, c and the pieces made of them, so that stop strings occur; now and then the end.
inline std::vector<float> hashed_logits(uint64_t history) {
  std::vector<float> logits(kBytesVocab);
  for (int64_t token = 0; token < kBytesVocab; ++token) {
    const float noise = float(mix(history, uint64_t(token)) >> 40) * 0x1p-24f;
    const bool likely = (token >= 'a' && token <= 'c') || (token >= 256 && token < 260) || token == 0xC3;
    logits[size_t(token)] = 4 * noise + (likely ? 3.0f : token == kEndOfText ? 1.5f : 0.0f);
  }
  return logits;
}

inline uint64_t history_of(const std::vector<int32_t>& tokens, int64_t prompt, bool fold_prompt = false) {
  uint64_t history = 1;
  for (int64_t i = 0; i < int64_t(tokens.size()); ++i)
    history = mix(history, uint64_t(tokens[size_t(i)]) * 2 + (i > 0 && (i >= prompt || fold_prompt)));
  return history;
}

class FakeEngine {
 public:
  explicit FakeEngine(const BatchLimits& limits)
      : limits_(limits), cache_(size_t(limits.pages * kPageTokens), {INT32_MIN, 0}) {}

  void step(const StepPlan& plan) {
    check(plan);
    for (const StepRow& row : plan.rows) {
      slot(plan, row.sequence, row.position) = {row.token, row.folded};
      rows.push_back(row);
    }
    logits.clear();
    best.clear();
    candidates.clear();
    modes.insert(plan.logits);
    for (const StepRow& row : plan.rows) {
      if (!row.wants_logits) continue;
      uint64_t history = 1;
      for (int position = 0; position <= row.position; ++position) {
        const auto& [token, folded] = slot(plan, row.sequence, position);
        history = mix(history, uint64_t(token) * 2 + folded);
      }
      const std::vector<float> values = hashed_logits(history);
      best.push_back(int32_t(std::max_element(values.begin(), values.end()) - values.begin()));
      if (asks_for_logits(plan.logits)) logits.insert(logits.end(), values.begin(), values.end());
      if (asks_for_candidates(plan.logits)) candidates.push_back(candidates_of(values));
    }
    ASSERT_EQ(plan.logits == LogitsMode::none, best.empty());
    if (plan.logits != LogitsMode::argmax) best.clear();
    ++steps_;
  }
  MatrixView<const float> logits_view() const {
    return {logits.data(), int64_t(logits.size()) / kBytesVocab, kBytesVocab};
  }

  std::vector<float> logits;
  std::vector<int32_t> best;
  std::vector<RowCandidates> candidates;
  std::vector<StepRow> rows;   // of all steps
  std::set<LogitsMode> modes;  // of all steps

 private:
  std::pair<int32_t, uint8_t>& slot(const StepPlan& plan, int32_t sequence, int position) {
    const int32_t page = plan.page_tables[size_t(sequence)][size_t(position / kPageTokens)];
    return cache_[size_t(page * kPageTokens + position % kPageTokens)];
  }

  // What the engine relies on.
  void check(const StepPlan& plan) {
    ASSERT_EQ(plan.step, steps_);
    ASSERT_FALSE(plan.stop);
    ASSERT_GE(plan.rows.size(), 1u);
    ASSERT_LE(int(plan.rows.size()), limits_.max_rows);
    ASSERT_LE(int(plan.page_tables.size()), limits_.max_batch);
    std::set<int32_t> closed;
    std::map<int32_t, int> users;  // of each page
    for (const auto& page_table : plan.page_tables) {
      for (const int32_t page : page_table) {
        ASSERT_TRUE(page >= 0 && page < limits_.pages);
        ASSERT_TRUE(++users[page] == 1 || limits_.share_prefixes) << "page " << page << " is used twice";
      }
    }
    for (const StepRow& row : plan.rows) {
      const int32_t page = plan.page_tables[size_t(row.sequence)][size_t(row.position / kPageTokens)];
      ASSERT_EQ(users[page], 1) << "page " << page << " is written to and shared";
    }
    ASSERT_EQ(plan.slots.size(), plan.page_tables.size());
    for (size_t i = 0; i < plan.slots.size(); ++i) {
      ASSERT_TRUE(plan.slots[i] >= 0 && plan.slots[i] < limits_.max_batch);
      ASSERT_EQ(std::count(plan.slots.begin(), plan.slots.end(), plan.slots[i]), 1);
      // A sequence keeps its first page, and so tells which one a slot's rows belong to.
      const auto [it, is_new] = first_page_.emplace(plan.slots[i], plan.page_tables[i][0]);
      const auto first = std::find_if(plan.rows.begin(), plan.rows.end(),
                                      [&](const StepRow& row) { return size_t(row.sequence) == i; });
      ASSERT_NE(first, plan.rows.end());
      if (limits_.share_prefixes) continue;
      if (first->position == 0) it->second = plan.page_tables[i][0];
      ASSERT_TRUE(!is_new || first->position == 0);
      ASSERT_EQ(it->second, plan.page_tables[i][0]) << "slot " << plan.slots[i] << " changed its sequence";
    }
    int prompt_rows = 0;
    for (size_t i = 0; i < plan.rows.size(); ++i) {
      const StepRow& row = plan.rows[i];
      ASSERT_TRUE(row.position >= 0 && row.position < limits_.max_positions);
      ASSERT_TRUE(row.position > 0 || !row.folded);
      ASSERT_LT(size_t(row.position / kPageTokens), plan.page_tables[size_t(row.sequence)].size());
      const bool continues = i > 0 && plan.rows[i - 1].sequence == row.sequence;
      if (continues) {
        ASSERT_EQ(row.position, plan.rows[i - 1].position + 1);
        ASSERT_FALSE(plan.rows[i - 1].wants_logits);
        ASSERT_FALSE(plan.rows[i - 1].prompt_end) << "a prompt and what follows it share a step";
      } else {
        ASSERT_TRUE(closed.insert(row.sequence).second) << "rows of a sequence stand apart";
      }
      prompt_rows += !row.folded;
    }
    ASSERT_TRUE(limits_.fold_prompt || prompt_rows <= limits_.prefill_chunk) << prompt_rows << " prompt rows";
  }

  BatchLimits limits_;
  std::vector<std::pair<int32_t, uint8_t>> cache_;  // token and folded, by page and place
  std::map<int32_t, int32_t> first_page_;           // of the sequence in a slot
  int64_t steps_ = 0;
};

inline BatchLimits small_limits() {
  BatchLimits limits;
  limits.max_batch = 4;
  limits.max_rows = 16;
  limits.prefill_chunk = 8;
  limits.vocab = kBytesVocab;
  limits.max_positions = 64;
  limits.pages = 12;
  return limits;
}

struct Outcome {
  std::map<std::string, Completion> completions;
  std::vector<StepRow> rows;
  std::set<LogitsMode> modes;
  int64_t preemptions = 0;
};

// Submits all, some while others run, and runs to the end.
inline Outcome run(const BatchLimits& limits, const std::vector<Request>& requests, size_t at_once = SIZE_MAX) {
  Batcher batcher(limits, byte_tokenizer());
  FakeEngine engine(limits);
  Outcome outcome;
  std::map<std::string, Completion> grown;
  size_t submitted = 0;
  const auto submit_some = [&] {
    for (size_t i = 0; i < at_once && submitted < requests.size(); ++i)
      batcher.submit(
          requests[submitted++],
          [&](Completion completion) {
            EXPECT_TRUE(outcome.completions.emplace(completion.id, completion).second) << "ended twice";
          },
          [&](const std::string& id, const Piece& piece) {
            EXPECT_FALSE(outcome.completions.contains(id)) << "text after the end";
            Completion& so_far = grown[id];
            so_far.text += piece.text;
            so_far.tokens.push_back(piece.token);
            if (piece.logprob) so_far.logprobs.push_back(*piece.logprob);
          });
  };
  StepPlan plan;
  for (submit_some(); batcher.plan(plan); submit_some()) {
    engine.step(plan);
    if (testing::Test::HasFatalFailure()) return outcome;
    batcher.accept(engine.logits_view(), engine.best, engine.candidates);
  }
  EXPECT_EQ(outcome.completions.size(), requests.size());
  EXPECT_EQ(batcher.queued(), 0);
  EXPECT_EQ(batcher.running(), 0);
  EXPECT_EQ(batcher.free_pages(), limits.pages);
  for (const auto& [id, completion] : outcome.completions) {
    EXPECT_EQ(grown[id].text, completion.text) << id;
    EXPECT_EQ(grown[id].tokens, completion.tokens) << id;
    EXPECT_EQ(grown[id].logprobs.size(), completion.logprobs.size()) << id;
  }
  outcome.rows = engine.rows;
  outcome.modes = engine.modes;
  outcome.preemptions = batcher.preemptions();
  return outcome;
}

// Greedy, and as many tokens as max_tokens.
inline Request text_request(const std::string& prompt, int max_tokens, const std::string& id = "", int priority = 0) {
  Request request;
  request.id = id;
  request.priority = priority;
  request.prompt = bytes_of(prompt);
  request.sampling.max_tokens = max_tokens;
  request.sampling.ignore_eos = true;
  return request;
}

inline Request random_request(const std::string& id, std::mt19937& random) {
  Request request;
  request.id = id;
  request.prompt.resize(random() % 40);
  for (int32_t& token : request.prompt) token = int32_t(random() % kBytesVocab);
  SamplingOptions& sampling = request.sampling;
  sampling.max_tokens = int(1 + random() % 60);
  sampling.seed = random();
  sampling.ignore_eos = random() % 2;
  if (random() % 2) sampling.temperature = 0.8f;
  if (random() % 4 == 0) sampling.top_k = 10;
  if (random() % 4 == 0) sampling.top_p = 0.9f;
  if (random() % 4 == 0) sampling.repetition_penalty = 1.2f;
  if (random() % 4 == 0) sampling.logprobs = int(random() % 4);
  if (random() % 2) sampling.stop = {"abca", "cc", "bab"};
  return request;
}

}  // namespace pleat::test
