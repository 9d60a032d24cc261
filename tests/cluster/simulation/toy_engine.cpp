#include "tests/cluster/simulation/toy_engine.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/kv_cache.h"

namespace pleat::test {

ToyEngine::ToyEngine(const BatchLimits& limits, Progress progress)
    : limits_(limits),
      progress_(std::move(progress)),
      cells_(size_t(limits.pages * kPageTokens)),
      prompts_(size_t(limits.max_batch)) {}

std::vector<ToyCell> ToyEngine::text_of(const StepPlan& plan, const StepRow& row) const {
  const auto& pages = plan.page_tables[size_t(row.sequence)];
  std::vector<ToyCell> text;
  for (int32_t position = 0; position <= row.position; ++position)
    text.push_back(cells_[size_t(pages[size_t(position / kPageTokens)] * kPageTokens + position % kPageTokens)]);
  return text;
}

StepResult ToyEngine::compute(const StepPlan& sent) {
  if (sent.rows.empty()) return {};
  const StepPlan plan = parse_plan(serialise(sent));  // as other ranks see it, with what that checks
  PLEAT_ASSERT(int64_t(plan.rows.size()) <= limits_.max_rows, plan.rows.size(), " rows");
  PLEAT_ASSERT(int64_t(plan.slots.size()) <= limits_.max_batch, plan.slots.size(), " sequences");
  for (const StepRow& row : plan.rows) {
    const int32_t page = plan.page_tables[size_t(row.sequence)][size_t(row.position / kPageTokens)];
    const int32_t slot = plan.slots[size_t(row.sequence)];
    PLEAT_ASSERT(page >= 0 && page < limits_.pages && slot < limits_.max_batch, "page ", page, ", slot ", slot);
    cells_[size_t(page * kPageTokens + row.position % kPageTokens)] = {row.token, row.folded != 0};
    if (row.prompt_end) prompts_[size_t(slot)] = row.position + 1;
  }
  logits_.clear();
  best_.clear();
  for (const StepRow& row : plan.rows) {
    if (!row.wants_logits) continue;
    const std::vector<ToyCell> text = text_of(plan, row);
    logits_.resize(logits_.size() + kToyVocab);
    float* logits = logits_.data() + logits_.size() - kToyVocab;
    toy_logits(text, logits);
    best_.push_back(int32_t(std::max_element(logits, logits + kToyVocab) - logits));
    const auto prompt = size_t(prompts_[size_t(plan.slots[size_t(row.sequence)])]);
    progress_(std::span(text).first(prompt), int64_t(text.size() - prompt) + 1);
  }
  return {{logits_.data(), int64_t(best_.size()), kToyVocab}, best_};
}

}  // namespace pleat::test
