// Where texts end: at end tokens, and where the logits are no numbers.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "kernels/check.h"
#include "tests/core/engine/fake_engine.h"

namespace pleat::test {
namespace {

TEST(Batcher, EndsATextAtAnyOfTheModelsEndTokens) {
  Request request = text_request("\1\2\3", 40, "a");
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

TEST(Batcher, ATextWhoseLogitsAreNoNumbersEndsWithAnErrorAndTheOthersGoOn) {
  const std::vector<Request> requests = {text_request("x", 9, "a"), text_request("y", 9, "b")};
  const Outcome expected = run(small_limits(), requests);
  Batcher batcher(small_limits(), byte_tokenizer());
  FakeEngine engine(small_limits());
  std::map<std::string, Completion> completions;
  for (const Request& request : requests)
    batcher.submit(request, [&](const Completion& completion) { completions[completion.id] = completion; }, {});
  StepPlan plan;
  for (int step = 0; batcher.plan(plan); ++step) {
    engine.step(plan);
    if (step == 4) engine.best[0] = -1;
    batcher.accept(engine.logits_view(), engine.best);
  }
  const Completion &a = completions.at("a"), &b = completions.at("b");
  ASSERT_TRUE(a.error.has_value());
  EXPECT_EQ(a.error->kind(), ErrorKind::failed);
  const std::vector<int32_t>& whole = expected.completions.at("a").tokens;
  EXPECT_EQ(a.tokens, std::vector<int32_t>(whole.begin(), whole.begin() + 4));
  EXPECT_FALSE(b.error.has_value());
  EXPECT_EQ(b.tokens, expected.completions.at("b").tokens);
  EXPECT_EQ(batcher.free_pages(), small_limits().pages);
}

}  // namespace
}  // namespace pleat::test
