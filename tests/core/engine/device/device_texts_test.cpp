// Texts written on a device, or the emulator's.
#include <gtest/gtest.h>

#include <map>

#include "core/engine/batcher.h"
#include "device_runs.h"
#include "tests/core/engine/byte_tokenizer.h"

namespace pleat::test {
namespace {

// Greedy ones, some that candidates settle, and some that need all logits.
std::vector<Request> mixed_requests() {
  std::vector<Request> requests;
  for (int i = 0; i < 6; ++i) {
    Request& request = requests.emplace_back();
    request.id = std::to_string(i);
    for (int token = 0; token < 2 + i % 4; ++token) request.prompt.push_back(3 + 17 * token + i);
    request.sampling.max_tokens = 2 + i % 3;
    request.sampling.ignore_eos = true;
    request.sampling.seed = uint64_t(i);
    if (i % 2) request.sampling.logprobs = 3;
    if (i % 5 == 0) continue;
    request.sampling.temperature = 1.5f;
    if (i % 5 == 4) continue;
    request.sampling.top_k = i % 5 == 3 ? kCandidates : 20;
    request.sampling.min_p = 0.1f;
  }
  return requests;
}

std::map<std::string, Completion> texts(int ranks, bool from_candidates) {
  LoadOptions options;
  options.backend = device_backend();
  std::map<std::string, Completion> completions;
  with_engine(fixture("families/gpt2"), ranks, options, [&](Engine& engine, Communicator& communicator) {
    BatchLimits limits;
    limits.max_batch = 3;
    limits.vocab = engine.blueprint().vocab;
    limits.max_positions = engine.blueprint().max_positions;
    limits.pages = engine.kv_pages();
    limits.gives_candidates = from_candidates;
    Batcher batcher(limits, byte_tokenizer());
    for (const Request& request : mixed_requests())
      batcher.submit(request, [&](Completion completion) { completions[completion.id] = std::move(completion); }, {});
    for (StepPlan plan; batcher.plan(plan);) {
      broadcast_plan(communicator, plan);
      engine.step(plan);
      batcher.accept(engine.logits(), engine.best_tokens(), engine.candidates());
    }
  });
  return completions;
}

TEST(DeviceTexts, CandidatesGiveThoseOfAllLogitsOnAnyRanks) {
  const std::map<std::string, Completion> expected = texts(1, false);
  EXPECT_EQ(expected.size(), mixed_requests().size());
  for (const int ranks : {1, 2, 3}) {
    const std::map<std::string, Completion> got = texts(ranks, true);
    for (const auto& [id, completion] : expected) {
      EXPECT_EQ(got.at(id).tokens, completion.tokens) << id << " on " << ranks << " ranks";
      ASSERT_EQ(got.at(id).logprobs.size(), completion.logprobs.size());
      for (size_t i = 0; i < completion.logprobs.size(); ++i)
        EXPECT_NEAR(got.at(id).logprobs[i].logprob, completion.logprobs[i].logprob, 1e-5) << id;
    }
  }
}

}  // namespace
}  // namespace pleat::test
