// What happens when pages run out, with a model made of hashes.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "tests/core/engine/fake_engine.h"

namespace pleat::test {
namespace {

TEST(Preemption, ChangesNoTextHoweverOftenAndWhoeverGivesWay) {
  int64_t preemptions = 0;
  for (unsigned seed = 0; seed < 100; ++seed) {
    std::mt19937 random(seed);
    std::vector<Request> requests;
    for (int i = 0; i < 10; ++i) {
      requests.push_back(random_request(std::to_string(i), random));
      requests.back().priority = int(random() % 3);
      if (random() % 4 == 0) requests.back().given = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17};
    }
    BatchLimits limits = small_limits();
    limits.fold_prompt = seed % 3 == 0;
    limits.pages = 1000;
    const Outcome expected = run(limits, requests);
    EXPECT_EQ(expected.preemptions, 0);

    limits.pages = 4;  // one text of the full length
    limits.share_prefixes = seed % 2;
    limits.prefill_chunk = int(1 + random() % 20);
    const Outcome got = run(limits, requests, 1 + random() % 10);
    preemptions += got.preemptions;
    for (const auto& [id, completion] : expected.completions) {
      const Completion& other = got.completions.at(id);
      EXPECT_EQ(completion.tokens, other.tokens) << id;
      EXPECT_EQ(completion.text, other.text) << id;
      EXPECT_EQ(completion.finish_reason, other.finish_reason) << id;
      ASSERT_EQ(completion.logprobs.size(), other.logprobs.size()) << id;
      for (size_t i = 0; i < completion.logprobs.size(); ++i)
        EXPECT_EQ(completion.logprobs[i].best, other.logprobs[i].best) << id;
    }
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
  EXPECT_GT(preemptions, 50) << "the test has room for all";
}

// While new ones keep coming, the oldest is computed in each step: no text waits for ever.
TEST(Preemption, TheOldestAlwaysAdvances) {
  for (unsigned seed = 0; seed < 10; ++seed) {
    std::mt19937 random(seed);
    BatchLimits limits = small_limits();
    limits.pages = 5;
    Batcher batcher(limits, byte_tokenizer());
    FakeEngine engine(limits);
    std::map<int, int> news;  // steps since the last token, of each that has not ended
    int submitted = 0, ended = 0;
    StepPlan plan;
    for (int step = 0; step < 1500; ++step) {
      while (batcher.queued() < 3) {
        const Request request = random_request(std::to_string(submitted), random);
        news[submitted++] = 0;
        batcher.submit(
            request,
            [&](const Completion& completion) {
              news.erase(std::stoi(completion.id));
              ++ended;
            },
            [&](const std::string& id, const Piece&) { news[std::stoi(id)] = 0; });
      }
      ASSERT_TRUE(batcher.plan(plan));
      engine.step(plan);
      ASSERT_FALSE(HasFatalFailure());
      batcher.accept(engine.logits_view(), engine.best);
      if (news.empty()) continue;
      ASSERT_LE(++news.begin()->second, 64 / limits.prefill_chunk + 2) << "request " << news.begin()->first;
      for (auto next = std::next(news.begin()); next != news.end(); ++next) next->second = 0;
    }
    EXPECT_GT(batcher.preemptions(), 5);
    EXPECT_GT(ended, 50);
  }
}

TEST(Preemption, TheLowestPriorityGivesWayHoweverOldItIs) {
  BatchLimits limits = small_limits();
  limits.pages = 4;
  Batcher batcher(limits, byte_tokenizer());
  FakeEngine engine(limits);
  std::string ends;
  const auto submit = [&](const std::string& id, int priority) {
    batcher.submit(text_request("1234", 50, id, priority), [&](const Completion& completion) { ends += completion.id; },
                   {});
  };
  submit("a", 0);
  submit("b", 0);
  submit("c", 1);
  for (StepPlan plan; batcher.plan(plan);) {
    engine.step(plan);
    batcher.accept(engine.logits_view(), engine.best);
  }
  EXPECT_EQ(ends, "cab");
  EXPECT_GE(batcher.preemptions(), 1);
  EXPECT_EQ(batcher.free_pages(), limits.pages);
}

}  // namespace
}  // namespace pleat::test
