// The scheduler's decisions, with a model made of hashes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

#include "kernels/check.h"
#include "tests/core/engine/fake_engine.h"

namespace pleat::test {
namespace {

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
    Request request = text_request("the beginning of a text", 20);
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
  const Request request = text_request("a prompt of more than thirty two tokens", 5);
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
  batcher.submit(text_request("x", 30), [](Completion) {}, {});
  batcher.submit(text_request(std::string(33, 'y'), 30), [](Completion) {}, {});
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

void expect_same_tokens(const Completion& a, const Completion& b, double of_logprobs) {
  EXPECT_EQ(a.tokens, b.tokens) << a.id;
  EXPECT_EQ(a.text, b.text) << a.id;
  ASSERT_EQ(a.logprobs.size(), b.logprobs.size()) << a.id;
  for (size_t i = 0; i < a.logprobs.size(); ++i) {
    EXPECT_NEAR(a.logprobs[i].logprob, b.logprobs[i].logprob, of_logprobs) << a.id;
    ASSERT_EQ(a.logprobs[i].best.size(), b.logprobs[i].best.size()) << a.id;
    for (size_t j = 0; j < a.logprobs[i].best.size(); ++j)
      EXPECT_EQ(a.logprobs[i].best[j].first, b.logprobs[i].best[j].first) << a.id;
  }
}

// Whether the others in the batch need all logits or not, and to the last bit of a log probability.
TEST(Scheduler, TextsFromCandidatesAreThoseFromAllLogits) {
  std::mt19937 random(31);
  std::set<LogitsMode> modes;
  for (int round = 0; round < 20; ++round) {
    std::vector<Request> requests;
    for (int i = 0; i < 8; ++i) requests.push_back(random_request(std::to_string(i), random));
    BatchLimits limits = small_limits();
    const Outcome from_logits = run(limits, requests);
    limits.gives_candidates = true;
    const Outcome together = run(limits, requests);
    limits.max_batch = 1;
    const Outcome alone = run(limits, requests);
    for (const auto& [id, completion] : from_logits.completions) {
      expect_same_tokens(completion, together.completions.at(id), 1e-6);
      expect_same_tokens(alone.completions.at(id), together.completions.at(id), 0);
    }
    modes.insert(together.modes.begin(), together.modes.end());
  }
  EXPECT_EQ(modes.size(), 5u) << "not every kind of step came";
}

TEST(Scheduler, TheContextsEndCutsATextToLength) {
  const Completion completion = run(small_limits(), {text_request(std::string(60, 'z'), 1000)}).completions.at("");
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
  for (const auto& [id, priority] : {std::pair("a", 0), {"b", -1}, {"c", 2}, {"d", 0}, {"e", 2}})
    batcher.submit(text_request("x", 2, id, priority), [&](Completion completion) { order += completion.id; }, {});
  for (StepPlan plan; batcher.plan(plan);) {
    engine.step(plan);
    batcher.accept(engine.logits_view(), engine.best);
  }
  EXPECT_EQ(order, "ceadb");
}

TEST(Scheduler, BadLogitsAreAnErrorOfTheirRequest) {
  Request request;
  request.id = "number 9";
  request.prompt = bytes_of("a");
  for (const double temperature : {1.0, 0.0}) {
    Batcher batcher(small_limits(), byte_tokenizer());
    request.sampling.temperature = temperature;
    Completion completion;
    batcher.submit(request, [&](Completion done) { completion = std::move(done); }, {});
    StepPlan plan;
    ASSERT_TRUE(batcher.plan(plan));
    const std::vector<float> logits(kBytesVocab, NAN);
    const std::vector<int32_t> best = {-1};
    temperature > 0 ? batcher.accept({logits.data(), 1, kBytesVocab}, {}) : batcher.accept({}, best);
    EXPECT_EQ(completion.id, "number 9");
    ASSERT_TRUE(completion.error.has_value());
    EXPECT_EQ(completion.error->kind(), ErrorKind::failed);
    EXPECT_EQ(batcher.running(), 0);
  }
}

}  // namespace
}  // namespace pleat::test
