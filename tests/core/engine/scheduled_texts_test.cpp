// The scheduler with the embedded model.
#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include <nlohmann/json.hpp>

#include "core/engine/scheduler.h"
#include "core/text/tokenizer.h"
#include "kernels/attention.h"
#include "tests/core/engine/run.h"

namespace pleat::test {
namespace {

std::map<std::string, Completion> run_requests(int ranks, WeightFormat dtype, const SchedulerOptions& options,
                                               const std::vector<Request>& requests) {
  std::map<std::string, Completion> completions;
  const Tokenizer tokenizer = Tokenizer::open(embedded_model());
  LoadOptions load;
  load.dtype = dtype;
  with_engine(embedded_model(), ranks, load, [&](Engine& engine, Communicator& communicator) {
    Scheduler scheduler(engine, communicator, tokenizer, options);
    for (const Request& request : requests)
      scheduler.submit(request, [&](Completion completion) { completions[completion.id] = std::move(completion); });
    while (scheduler.step()) {
    }
    EXPECT_EQ(scheduler.running() + scheduler.queued(), 0);
  });
  EXPECT_EQ(completions.size(), requests.size());
  return completions;
}

TEST(ScheduledTexts, GreedyOnesAreHuggingFaces) {
  std::ifstream file(fixture("pleat-gpt2-9m-golden.json"));
  const nlohmann::json golden = nlohmann::json::parse(file);
  std::vector<Request> requests;
  for (const auto& item : golden["greedy"]) {
    Request request;
    request.id = std::to_string(requests.size());
    request.prompt = item["prompt_ids"].get<std::vector<int32_t>>();
    request.sampling.max_tokens = 32;
    requests.push_back(request);
  }
  SchedulerOptions options;
  options.prefill_chunk = 5;
  const auto completions = run_requests(2, WeightFormat::f32, options, requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    const Completion& completion = completions.at(std::to_string(i));
    const auto ids = golden["greedy"][i]["ids"].get<std::vector<int32_t>>();
    EXPECT_EQ(completion.tokens, ids) << i;
    EXPECT_EQ(completion.finish_reason, ids.size() < 32 ? "stop" : "length") << i;
    std::string text = golden["greedy"][i]["text"];  // with the end token, which is no text of the completion
    if (text.ends_with("<|endoftext|>")) text.resize(text.size() - 13);
    EXPECT_EQ(completion.text, text) << i;
  }
}

TEST(ScheduledTexts, SampledOnesAreTheSameOnAnyRanksBatchAndChunk) {
  std::vector<Request> requests;
  for (int i = 0; i < 5; ++i) {
    Request request;
    request.id = std::to_string(i);
    for (int token = 0; token < 3 + 7 * i; ++token) request.prompt.push_back(100 + 13 * token + i);
    request.sampling.temperature = 0.9f;
    request.sampling.top_p = 0.95f;
    request.sampling.seed = uint64_t(i);
    request.sampling.max_tokens = 12;
    request.sampling.logprobs = 2;
    requests.push_back(request);
  }
  SchedulerOptions alone, together;
  alone.max_batch = 1;
  together.prefill_chunk = 9;
  const auto expected = run_requests(1, WeightFormat::bf16, alone, requests);
  const auto got = run_requests(3, WeightFormat::bf16, together, requests);
  for (const auto& [id, completion] : expected) {
    EXPECT_EQ(completion.tokens, got.at(id).tokens) << id;
    EXPECT_EQ(completion.text, got.at(id).text) << id;
    EXPECT_EQ(completion.logprobs.size(), completion.tokens.size());
    for (size_t i = 0; i < completion.logprobs.size(); ++i)
      EXPECT_EQ(completion.logprobs[i].best, got.at(id).logprobs.at(i).best);
  }
}

}  // namespace
}  // namespace pleat::test
