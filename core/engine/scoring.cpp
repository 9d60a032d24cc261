#include "core/engine/scoring.h"

#include <algorithm>
#include <numeric>

#include "kernels/attention.h"
#include "kernels/check.h"

namespace pleat {

// Page i of the cache holds positions [i * kPageTokens, (i + 1) * kPageTokens): nothing else runs meanwhile, and a
// window overwrites the one before it.
void score(Engine& engine, Communicator& communicator, std::span<const int32_t> tokens, const ScoringOptions& options,
           const std::function<void(int64_t index, std::span<const float> logits)>& row) {
  const Blueprint& blueprint = engine.blueprint();
  PLEAT_REQUIRE(options.window >= 2 && options.window - 1 <= blueprint.max_positions, "the window is ", options.window,
                " tokens, expected 2 to one more than the model's context of ", blueprint.max_positions);
  PLEAT_REQUIRE(options.window - 1 <= engine.kv_pages() * kPageTokens, "the window is ", options.window,
                " tokens, but the key-value cache has room for ", engine.kv_pages() * kPageTokens);
  for (const int32_t token : tokens)
    PLEAT_REQUIRE(token >= 0 && token < blueprint.vocab, "token ", token, " is not in the model's vocabulary of ",
                  blueprint.vocab);
  if (options.max_tokens > 0) tokens = tokens.first(std::min(tokens.size(), size_t(options.max_tokens)));

  const int64_t chunk = std::min(engine.options().max_rows, engine.options().max_logit_rows);
  const int64_t prompt = std::max(1, options.exact_prefix);
  StepPlan plan;
  plan.logits = LogitsMode::full;
  plan.slots = {0};
  for (int64_t begin = 0; begin + 1 < int64_t(tokens.size()); begin += options.window) {
    // The window's last token has no following one and need not run.
    const int64_t rows = std::min<int64_t>(options.window, int64_t(tokens.size()) - begin) - 1;
    for (int64_t first = 0; first < rows; first += chunk, ++plan.step) {
      const int64_t last = std::min(rows, first + chunk);
      plan.rows.clear();
      for (int64_t position = first; position < last; ++position) {
        const bool prompt_end = position + 1 == prompt;
        plan.rows.push_back(
            {tokens[size_t(begin + position)], int32_t(position), 0, position >= prompt, 1, prompt_end});
      }
      plan.page_tables.assign(1, std::vector<int32_t>(size_t((last - 1) / kPageTokens + 1)));
      std::iota(plan.page_tables[0].begin(), plan.page_tables[0].end(), 0);
      broadcast_plan(communicator, plan);
      engine.step(plan);
      const MatrixView<const float> logits = engine.logits();
      PLEAT_ASSERT(logits.rows == last - first);
      for (int64_t i = 0; i < logits.rows; ++i) row(begin + first + i, std::span(logits[i], size_t(logits.cols)));
    }
  }
}

}  // namespace pleat
