// Texts of which some tokens are there already: given to be scored, or written elsewhere.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>

#include "kernels/check.h"
#include "tests/core/engine/fake_engine.h"

namespace pleat::test {
namespace {

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
    // The same tokens as a prompt: computed otherwise, and so nothing to go on from.
    Request alike = request;
    if (alike.prompt.empty()) alike.prompt.push_back(kEndOfText);
    alike.prompt.insert(alike.prompt.end(), whole.tokens.begin(), whole.tokens.end());
    if (int64_t(alike.prompt.size()) < limits.max_positions) batcher.submit(alike, [](Completion) {}, {});
    finish();
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

}  // namespace
}  // namespace pleat::test
