// Texts that give way and are computed again have the bits of those that are not, by every way to be exact and to keep
// keys and values.
#include <gtest/gtest.h>

#include <map>

#include "core/engine/scheduler.h"
#include "core/text/tokenizer.h"
#include "tests/core/fold/folded_models.h"

namespace pleat::test {
namespace {

struct Way {
  bool gated;
  SelectionKind selection;
  std::optional<DType> kv_dtype;
  double key_channels;
};

struct Texts {
  std::map<std::string, Completion> completions;
  int64_t preemptions = 0;
};

Texts texts(const std::string& folder, const Way& way, int ranks, int64_t kv_tokens) {
  LoadOptions load;
  load.oversubscribed = true;
  load.engine.kv_tokens = kv_tokens;
  load.engine.kv_dtype = way.kv_dtype;
  load.engine.key_channels = way.key_channels;
  const Tokenizer tokenizer = Tokenizer::open(folder);
  Texts out;
  with_engine(folder, ranks, load, [&](Engine& engine, Communicator& communicator) {
    SchedulerOptions options;
    options.max_batch = 4;
    options.prefill_chunk = 11;
    Scheduler scheduler(engine, communicator, tokenizer, options);
    for (int i = 0; i < 5; ++i) {
      Request request;
      request.id = std::to_string(i);
      for (int token = 0; token < 5 + 3 * i; ++token) request.prompt.push_back(2 + (token * 37 + i * 11) % 200);
      request.sampling.ignore_eos = true;
      request.sampling.max_tokens = 64 - int(request.prompt.size());
      request.sampling.logprobs = 1;
      scheduler.submit(request, [&](Completion completion) { out.completions[completion.id] = std::move(completion); });
    }
    while (scheduler.step()) {
    }
    out.preemptions = scheduler.preemptions();
    EXPECT_EQ(scheduler.free_pages(), scheduler.pages());
  });
  return out;
}

TEST(Preemption, ComputesATextAgainWithTheSameBits) {
  for (const Way& way :
       {Way{true, SelectionKind::prompt, std::nullopt, 1}, Way{false, SelectionKind::core, DType::i8, 1},
        Way{false, SelectionKind::range, std::nullopt, 0.6}, Way{true, SelectionKind::prompt, DType::i8, 0.6},
        Way{true, SelectionKind::predictor, std::nullopt, 1}}) {
    LayerRecipe recipe;
    recipe.selection = way.selection;
    recipe.exact = 0.3;
    const std::string folder = Models::folded(way.gated, recipe);
    const Texts roomy = texts(folder, way, 1, 64 * 5);
    EXPECT_EQ(roomy.preemptions, 0);
    EXPECT_EQ(roomy.completions.size(), 5u);
    for (const int ranks : {1, 2, 3}) {
      const Texts tight = texts(folder, way, ranks, 64);
      EXPECT_GE(tight.preemptions, 1);
      for (const auto& [id, completion] : roomy.completions) {
        const Completion& other = tight.completions.at(id);
        EXPECT_EQ(completion.tokens, other.tokens) << id;
        ASSERT_EQ(completion.logprobs.size(), other.logprobs.size());
        for (size_t i = 0; i < completion.logprobs.size(); ++i)
          EXPECT_EQ(completion.logprobs[i].logprob, other.logprobs[i].logprob) << id << ", token " << i;
      }
      ASSERT_FALSE(HasFailure()) << int(way.selection) << " on " << ranks << " ranks";
    }
  }
}

}  // namespace
}  // namespace pleat::test
