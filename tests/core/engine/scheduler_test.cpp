// The scheduler's decisions with a model made of hashes: its logits depend on every token a sequence has, on whether
// its row was folded, and on nothing else. The fake cache is paged, so a page lent twice or a wrong table changes a
// text.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <set>

#include "core/engine/batcher.h"
#include "kernels/attention.h"
#include "kernels/check.h"
#include "tests/core/engine/byte_tokenizer.h"

namespace pleat::test {
namespace {

uint64_t mix(uint64_t a, uint64_t b) {
  uint64_t x = (a ^ b * 0x9E3779B97F4A7C15) + 0x632BE59BD9B4E019;
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
  x = (x ^ x >> 27) * 0x94D049BB133111EB;
  return x ^ x >> 31;
}

// Mostly a, b, c and the pieces made of them, so that stop strings occur; now and then the end.
std::vector<float> hashed_logits(uint64_t history) {
  std::vector<float> logits(kBytesVocab);
  for (int64_t token = 0; token < kBytesVocab; ++token) {
    const float noise = float(mix(history, uint64_t(token)) >> 40) * 0x1p-24f;
    const bool likely = (token >= 'a' && token <= 'c') || (token >= 256 && token < 260) || token == 0xC3;
    logits[size_t(token)] = 4 * noise + (likely ? 3.0f : token == kEndOfText ? 1.5f : 0.0f);
  }
  return logits;
}

uint64_t history_of(const std::vector<int32_t>& tokens, int64_t prompt, bool fold_prompt = false) {
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
    for (const StepRow& row : plan.rows) {
      if (!row.wants_logits) continue;
      uint64_t history = 1;
      for (int position = 0; position <= row.position; ++position) {
        const auto& [token, folded] = slot(plan, row.sequence, position);
        history = mix(history, uint64_t(token) * 2 + folded);
      }
      const std::vector<float> values = hashed_logits(history);
      best.push_back(int32_t(std::max_element(values.begin(), values.end()) - values.begin()));
      if (plan.logits == LogitsMode::full) logits.insert(logits.end(), values.begin(), values.end());
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
  std::vector<StepRow> rows;  // of all steps

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

BatchLimits small_limits() {
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
};

// Submits all, some while others run, and runs to the end.
Outcome run(const BatchLimits& limits, const std::vector<Request>& requests, size_t at_once = SIZE_MAX) {
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
    batcher.accept(engine.logits_view(), engine.best);
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
  return outcome;
}

TEST(Batcher, EndsATextAtAnyOfTheModelsEndTokens) {
  Request request;
  request.id = "a";
  request.prompt = {1, 2, 3};
  request.sampling.max_tokens = 40;
  request.sampling.ignore_eos = true;
  const std::vector<int32_t> whole = run(small_limits(), {request}).completions.at("a").tokens;
  ASSERT_EQ(whole.size(), 40u);
  request.sampling.ignore_eos = false;
  BatchLimits limits = small_limits();
  limits.end_tokens = {kBytesVocab - 1, whole[5]};
  const Completion cut = run(limits, {request}).completions.at("a");
  const size_t first = size_t(std::find(whole.begin(), whole.end(), whole[5]) - whole.begin());
  EXPECT_EQ(cut.finish_reason, "stop");
  EXPECT_EQ(cut.tokens, std::vector<int32_t>(whole.begin(), whole.begin() + int64_t(first) + 1));
}

Request random_request(const std::string& id, std::mt19937& random) {
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

void expect_equal(const Outcome& a, const Outcome& b) {
  ASSERT_EQ(a.completions.size(), b.completions.size());
  for (const auto& [id, mine] : a.completions) {
    const Completion& other = b.completions.at(id);
    EXPECT_EQ(mine.tokens, other.tokens) << id;
    EXPECT_EQ(mine.text, other.text) << id;
    EXPECT_EQ(mine.finish_reason, other.finish_reason) << id;
    EXPECT_EQ(mine.prompt_tokens, other.prompt_tokens) << id;
    ASSERT_EQ(mine.logprobs.size(), other.logprobs.size()) << id;
    for (size_t i = 0; i < mine.logprobs.size(); ++i) {
      EXPECT_EQ(mine.logprobs[i].token, mine.tokens[i]) << id;
      EXPECT_EQ(mine.logprobs[i].logprob, other.logprobs[i].logprob) << id;
      EXPECT_EQ(mine.logprobs[i].best, other.logprobs[i].best) << id;
    }
  }
}

TEST(Scheduler, ATextDependsOnItsRequestAloneAndEveryRequestEndsOnce) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    std::vector<Request> requests;
    for (int i = 0; i < 8; ++i) requests.push_back(random_request(std::to_string(i), random));
    BatchLimits alone = small_limits();
    alone.max_batch = 1;
    alone.max_rows = alone.prefill_chunk = 64;
    alone.fold_prompt = seed % 3 == 0;
    const Outcome expected = run(alone, requests);

    BatchLimits limits = alone;
    limits.max_batch = int(1 + random() % 6);
    limits.max_rows = limits.max_batch + int(random() % 30);
    limits.prefill_chunk = int(1 + random() % 40);
    limits.pages = int64_t(4 + random() % 20);
    std::shuffle(requests.begin(), requests.end(), random);
    expect_equal(expected, run(limits, requests, 1 + random() % 8));
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
}

TEST(Scheduler, GreedyTokensAreThoseOfTheModelAskedOneByOne) {
  std::mt19937 random(1);
  for (const bool fold_prompt : {false, true}) {
    BatchLimits limits = small_limits();
    limits.fold_prompt = fold_prompt;
    Request request;
    request.prompt = bytes_of("the beginning of a text");
    request.sampling.max_tokens = 20;
    request.sampling.ignore_eos = true;
    std::vector<int32_t> tokens = request.prompt;
    for (int i = 0; i < 20; ++i) {
      const auto logits = hashed_logits(history_of(tokens, int64_t(request.prompt.size()), fold_prompt));
      tokens.push_back(int32_t(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    }
    const std::vector<int32_t> generated(tokens.begin() + int64_t(request.prompt.size()), tokens.end());
    EXPECT_EQ(run(limits, {request}).completions.at("").tokens, generated);
    request.sampling.logprobs = 0;  // by way of the full logits
    EXPECT_EQ(run(limits, {request}).completions.at("").tokens, generated);
  }
}

TEST(Scheduler, ChunksOfAnySizeGiveTheSameRows) {
  Request request;
  request.prompt = bytes_of("a prompt of more than thirty two tokens");
  request.sampling.max_tokens = 5;
  request.sampling.ignore_eos = true;
  for (const bool fold_prompt : {false, true}) {
    for (int chunk = 1; chunk <= 45; ++chunk) {
      BatchLimits limits = small_limits();
      limits.fold_prompt = fold_prompt;
      limits.max_rows = 40;
      limits.prefill_chunk = chunk;
      const std::vector<StepRow> rows = run(limits, {request}).rows;
      ASSERT_EQ(rows.size(), request.prompt.size() + 4) << "the last token need not run";
      for (size_t i = 0; i < rows.size(); ++i) {
        const bool is_prompt = i < request.prompt.size();
        EXPECT_EQ(rows[i].position, int(i));
        EXPECT_TRUE(!is_prompt || rows[i].token == request.prompt[i]);
        EXPECT_EQ(rows[i].folded, i > 0 && (!is_prompt || fold_prompt));
        EXPECT_EQ(rows[i].prompt_end, i + 1 == request.prompt.size());
        EXPECT_EQ(rows[i].wants_logits, i + 1 >= request.prompt.size());
      }
    }
  }
}

TEST(Scheduler, DecodingSequencesRunInEveryStepBesideALongPrompt) {
  BatchLimits limits = small_limits();
  Batcher batcher(limits, byte_tokenizer());
  FakeEngine engine(limits);
  StepPlan plan;
  Request first, second;
  first.prompt = bytes_of("x");
  first.sampling.max_tokens = 30;
  first.sampling.ignore_eos = true;
  second = first;
  second.prompt = bytes_of(std::string(33, 'y'));
  batcher.submit(first, [](Completion) {}, {});
  batcher.submit(second, [](Completion) {}, {});
  for (int step = 0; step < 5; ++step) {
    ASSERT_TRUE(batcher.plan(plan));
    // 33 = 7 (beside the first prompt's one) + 8 + 8 + 8 + 2
    EXPECT_EQ(plan.rows.size(), step == 0 ? 8u : step < 4 ? 9u : 3u) << step;
    EXPECT_EQ(plan.rows[0].position, step);
    EXPECT_EQ(plan.logits, LogitsMode::argmax);
    engine.step(plan);
    batcher.accept(engine.logits_view(), engine.best);
  }
  EXPECT_EQ(batcher.prompt_tokens(), 34);
  EXPECT_EQ(batcher.generated_tokens(), 6);
  EXPECT_EQ(batcher.running(), 2);
}

TEST(Scheduler, TheContextsEndCutsATextToLength) {
  Request request;
  request.prompt = bytes_of(std::string(60, 'z'));
  request.sampling.max_tokens = 1000;
  request.sampling.ignore_eos = true;
  const Completion completion = run(small_limits(), {request}).completions.at("");
  EXPECT_EQ(completion.tokens.size(), 4u);
  EXPECT_EQ(completion.finish_reason, "length");
  EXPECT_EQ(completion.prompt_tokens, 60);
}

TEST(Scheduler, AnEmptyPromptStartsFromTheEndToken) {
  Request request;
  request.sampling.max_tokens = 3;
  const Outcome outcome = run(small_limits(), {request});
  EXPECT_EQ(outcome.rows.at(0).token, kEndOfText);
  EXPECT_EQ(outcome.completions.at("").prompt_tokens, 1);
  Batcher without_end(small_limits(), byte_tokenizer(false));
  EXPECT_THROW(without_end.submit(request, [](Completion) {}, {}), Error);
}

TEST(Scheduler, RefusesWhatCanNeverRun) {
  BatchLimits limits = small_limits();
  limits.pages = 3;
  Batcher batcher(limits, byte_tokenizer());
  const auto refuses = [&](auto&& change) {
    Request request;
    request.prompt = bytes_of("hello");
    request.sampling.max_tokens = 2;
    change(request);
    try {
      batcher.submit(request, [](Completion) {}, {});
    } catch (const Error& error) {
      return error.kind() == ErrorKind::invalid;
    }
    return false;
  };
  EXPECT_FALSE(refuses([](Request&) {}));
  EXPECT_TRUE(refuses([](Request& r) { r.prompt.assign(64, 1); }));
  EXPECT_TRUE(refuses([](Request& r) { r.prompt.assign(40, 1), r.sampling.max_tokens = 20; })) << "more than 3 pages";
  EXPECT_FALSE(refuses([](Request& r) { r.prompt.assign(40, 1), r.sampling.max_tokens = 8; }));
  EXPECT_TRUE(refuses([](Request& r) { r.prompt[2] = kBytesVocab; }));
  EXPECT_TRUE(refuses([](Request& r) { r.prompt[2] = -1; }));
  EXPECT_TRUE(refuses([](Request& r) { r.sampling.max_tokens = 0; }));
  EXPECT_TRUE(refuses([](Request& r) { r.sampling.temperature = -1; }));
  EXPECT_TRUE(refuses([](Request& r) { r.sampling.temperature = NAN; }));
  EXPECT_TRUE(refuses([](Request& r) { r.sampling.top_k = -1; }));
  EXPECT_TRUE(refuses([](Request& r) { r.sampling.top_p = 0; }));
  EXPECT_TRUE(refuses([](Request& r) { r.sampling.top_p = 1.5f; }));
  EXPECT_TRUE(refuses([](Request& r) { r.sampling.min_p = 2; }));
  EXPECT_TRUE(refuses([](Request& r) { r.sampling.repetition_penalty = 0; }));
  EXPECT_TRUE(refuses([](Request& r) { r.sampling.logprobs = -2; }));
  EXPECT_TRUE(refuses([](Request& r) { r.sampling.stop = {""}; }));
  EXPECT_EQ(batcher.queued(), 2);
}

TEST(Scheduler, ARequestMayBeSubmittedWhenAnotherEnds) {
  BatchLimits limits = small_limits();
  Batcher batcher(limits, byte_tokenizer());
  FakeEngine engine(limits);
  int ended = 0;
  Request request;
  request.prompt = bytes_of("chain");
  request.sampling.max_tokens = 3;
  std::function<void(Completion)> done = [&](Completion) {
    if (++ended < 5) batcher.submit(request, done, {});
  };
  batcher.submit(request, done, {});
  for (StepPlan plan; batcher.plan(plan);) {
    engine.step(plan);
    batcher.accept(engine.logits_view(), engine.best);
  }
  EXPECT_EQ(ended, 5);
  EXPECT_EQ(batcher.free_pages(), limits.pages);
}

// Others keep their texts whenever some are cancelled, and what those held is free in the next step.
TEST(Scheduler, CancelledRequestsLeaveNothingBehindAndOthersUnharmed) {
  for (unsigned seed = 0; seed < 100; ++seed) {
    std::mt19937 random(seed);
    std::vector<Request> requests;
    for (int i = 0; i < 10; ++i) requests.push_back(random_request(std::to_string(i), random));
    const BatchLimits limits = small_limits();
    const Outcome expected = run(limits, requests);

    Batcher batcher(limits, byte_tokenizer());
    FakeEngine engine(limits);
    std::map<std::string, Completion> completions;
    std::set<std::string> cancelled;
    for (const Request& request : requests)
      batcher.submit(
          request, [&](Completion completion) { completions[completion.id] = completion; },
          [&](const std::string& id, const Piece&) { EXPECT_FALSE(cancelled.contains(id)); });
    StepPlan plan;
    while (batcher.plan(plan)) {
      engine.step(plan);
      ASSERT_FALSE(HasFatalFailure());
      batcher.accept(engine.logits_view(), engine.best);
      if (random() % 4 > 0) continue;
      const std::string id = std::to_string(random() % 10);
      const int64_t before = batcher.queued() + batcher.running();
      const bool there = !completions.contains(id) && !cancelled.contains(id);
      EXPECT_EQ(batcher.cancel(id), there);
      EXPECT_EQ(batcher.queued() + batcher.running(), before - there);
      if (there) cancelled.insert(id);
    }
    EXPECT_EQ(batcher.free_pages(), limits.pages);
    EXPECT_EQ(completions.size() + cancelled.size(), 10u);
    for (const auto& [id, completion] : completions)
      EXPECT_EQ(completion.tokens, expected.completions.at(id).tokens) << id;
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
}

// Prompts that begin alike, in few pages, so that beginnings are found, held and thrown away, and some are cancelled.
TEST(Scheduler, SharedBeginningsChangeNoTextAndLeaveNoPageBehind) {
  int64_t reused = 0;
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    std::vector<std::vector<int32_t>> bases(3, std::vector<int32_t>(50));
    for (auto& base : bases)
      for (int32_t& token : base) token = int32_t(random() % 256);
    bases[1] = bases[0];
    bases[1][20] ^= 1;
    std::vector<Request> requests;
    for (int i = 0; i < 12; ++i) {
      requests.push_back(random_request(std::to_string(i), random));
      const auto& base = bases[random() % 3];
      requests.back().prompt.assign(base.begin(), base.begin() + int64_t(1 + random() % 50));
    }
    BatchLimits limits = small_limits();
    limits.fold_prompt = seed % 3 == 0;
    const Outcome expected = run(limits, requests);

    limits.share_prefixes = true;
    limits.pages = int64_t(4 + random() % 12);
    limits.max_batch = int(1 + random() % 6);
    expect_equal(expected, run(limits, requests, 1 + random() % 6));

    Batcher batcher(limits, byte_tokenizer());
    FakeEngine engine(limits);
    for (const Request& request : requests)
      batcher.submit(request,
                     [&](const Completion& completion) {
                       EXPECT_EQ(completion.tokens, expected.completions.at(completion.id).tokens);
                     },
                     {});
    for (StepPlan plan; batcher.plan(plan);) {
      engine.step(plan);
      ASSERT_FALSE(HasFatalFailure());
      batcher.accept(engine.logits_view(), engine.best);
      if (random() % 8 == 0) batcher.cancel(std::to_string(random() % 12));
    }
    EXPECT_EQ(batcher.free_pages(), limits.pages);
    reused += batcher.reused_tokens();
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
  EXPECT_GT(reused, 200 * 16) << "the test shares nothing";
}

TEST(Scheduler, WaitingRequestsGoByPriorityAndThenByArrival) {
  BatchLimits limits = small_limits();
  limits.max_batch = 1;
  Batcher batcher(limits, byte_tokenizer());
  FakeEngine engine(limits);
  std::string order;
  for (const auto& [id, priority] : {std::pair("a", 0), {"b", -1}, {"c", 2}, {"d", 0}, {"e", 2}}) {
    Request request;
    request.id = id;
    request.priority = priority;
    request.prompt = bytes_of("x");
    request.sampling.max_tokens = 2;
    batcher.submit(request, [&](Completion completion) { order += completion.id; }, {});
  }
  for (StepPlan plan; batcher.plan(plan);) {
    engine.step(plan);
    batcher.accept(engine.logits_view(), engine.best);
  }
  EXPECT_EQ(order, "ceadb");
}

TEST(Scheduler, GivenTokensGetTheLogprobsTheModelGivesThem) {
  Request request;
  request.prompt = bytes_of("a context");
  request.given = {'b', kEndOfText, 'c', 'a'};
  const Outcome outcome = run(small_limits(), {request});
  const Completion& completion = outcome.completions.at("");
  EXPECT_EQ(completion.tokens, request.given);
  EXPECT_EQ(completion.finish_reason, "length");
  EXPECT_EQ(outcome.rows.size(), request.prompt.size() + 3);
  std::vector<int32_t> tokens = request.prompt;
  for (size_t i = 0; i < request.given.size(); ++i) {
    const auto logits = hashed_logits(history_of(tokens, int64_t(request.prompt.size())));
    double sum = 0;
    for (const float logit : logits) sum += std::exp(double(logit));
    EXPECT_NEAR(completion.logprobs.at(i).logprob, double(logits[size_t(request.given[i])]) - std::log(sum), 1e-5);
    tokens.push_back(request.given[i]);
  }
}

// Cut at every token, and continued among others: what both wrote, one after the other, is the text without a cut.
TEST(Scheduler, ATextBegunElsewhereGoesOnAsIfItHadNotBeenInterrupted) {
  for (unsigned seed = 0; seed < 40; ++seed) {
    std::mt19937 random(seed);
    BatchLimits limits = small_limits();
    limits.pages = 40;
    limits.share_prefixes = seed % 2;
    limits.prefill_chunk = int(1 + random() % 20);
    limits.fold_prompt = seed % 3 == 0;
    const Request request = random_request("whole", random);
    std::vector<std::pair<int32_t, std::string>> pieces;  // of the text without a cut
    Completion whole;
    Batcher batcher(limits, byte_tokenizer());
    FakeEngine engine(limits);
    const auto finish = [&] {
      for (StepPlan plan; batcher.plan(plan);) {
        engine.step(plan);
        ASSERT_FALSE(HasFatalFailure());
        batcher.accept(engine.logits_view(), engine.best);
      }
    };
    batcher.submit(
        request, [&](Completion completion) { whole = std::move(completion); },
        [&](const std::string&, const Piece& piece) { pieces.emplace_back(piece.token, piece.text); });
    finish();
    ASSERT_EQ(pieces.size(), whole.tokens.size());
    std::map<std::string, std::vector<std::pair<int32_t, std::string>>> continued;
    std::map<std::string, Completion> ends;
    for (size_t cut = 0; cut <= pieces.size(); ++cut) {
      Request rest = request;
      rest.id = std::to_string(cut);
      rest.written.assign(whole.tokens.begin(), whole.tokens.begin() + int64_t(cut));
      continued[rest.id].assign(pieces.begin(), pieces.begin() + int64_t(cut));
      batcher.submit(
          rest, [&](Completion completion) { ends.emplace(completion.id, std::move(completion)); },
          [&](const std::string& id, const Piece& piece) { continued[id].emplace_back(piece.token, piece.text); });
    }
    finish();
    for (size_t cut = 0; cut <= pieces.size(); ++cut) {
      const Completion& end = ends.at(std::to_string(cut));
      EXPECT_EQ(continued[end.id], pieces) << cut;
      EXPECT_EQ(end.text, whole.text) << cut;
      EXPECT_EQ(end.tokens, whole.tokens) << cut;
      EXPECT_EQ(end.finish_reason, whole.finish_reason) << cut;
      EXPECT_EQ(end.prompt_tokens, whole.prompt_tokens) << cut;
      ASSERT_EQ(end.logprobs.size(), whole.logprobs.empty() ? 0 : pieces.size() - cut);
      for (size_t i = 0; i < end.logprobs.size(); ++i)
        EXPECT_EQ(end.logprobs[i].logprob, whole.logprobs[cut + i].logprob) << cut;
    }
    EXPECT_EQ(batcher.free_pages(), limits.pages);
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
}

TEST(Scheduler, RefusesABegunTextThatCannotBe) {
  Batcher batcher(small_limits(), byte_tokenizer());
  Request request;
  request.prompt = bytes_of("x");
  request.sampling.max_tokens = 3;
  for (const auto& written : {std::vector<int32_t>{'a', 'b', 'c', 'd'}, {'a', kEndOfText, 'c'}, {kBytesVocab}}) {
    request.written = written;
    EXPECT_THROW(batcher.submit(request, {}, {}), Error);
  }
  EXPECT_EQ(batcher.queued(), 0);
}

TEST(Scheduler, BadLogitsAreAnErrorThatNamesTheRequest) {
  BatchLimits limits = small_limits();
  Batcher batcher(limits, byte_tokenizer());
  Request request;
  request.id = "number 9";
  request.prompt = bytes_of("a");
  request.sampling.temperature = 1;
  batcher.submit(request, [](Completion) {}, {});
  StepPlan plan;
  ASSERT_TRUE(batcher.plan(plan));
  const std::vector<float> logits(kBytesVocab, NAN);
  try {
    batcher.accept({logits.data(), 1, kBytesVocab}, {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::failed);
    EXPECT_NE(std::string(error.what()).find("number 9"), std::string::npos);
  }
}

}  // namespace
}  // namespace pleat::test
