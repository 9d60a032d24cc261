#include "core/engine/scheduler.h"

#include <algorithm>

#include "core/engine/batcher.h"
#include "kernels/check.h"

namespace pleat {
namespace {

BatchLimits limits_of(const Engine& engine, const SchedulerOptions& options) {
  BatchLimits limits;
  limits.max_batch = std::min({options.max_batch, engine.options().max_logit_rows, engine.options().max_rows});
  limits.max_rows = engine.options().max_rows;
  limits.prefill_chunk = options.prefill_chunk;
  limits.fold_prompt = options.fold_prompt;
  PLEAT_REQUIRE(!options.fold_prompt || !engine.chooses_by_prompt(),
                "this model keeps neurons by what a prompt's dense pass shows (selection prompt or core): its prompts "
                "cannot be folded too");
  limits.gives_candidates = engine.gives_candidates();
  limits.share_prefixes = engine.shares_prefixes();
  limits.vocab = engine.blueprint().vocab;
  limits.max_positions = engine.blueprint().max_positions;
  limits.end_tokens = engine.blueprint().end_tokens;
  limits.pages = engine.kv_pages();
  return limits;
}

StepResult compute_on(Engine& engine, Communicator& communicator, StepPlan& plan) {
  broadcast_plan(communicator, plan);
  if (plan.rows.empty()) return {};
  engine.step(plan);
  return {asks_for_logits(plan.logits) ? engine.logits() : MatrixView<const float>(), engine.best_tokens(),
          asks_for_candidates(plan.logits) ? engine.candidates() : std::span<const RowCandidates>()};
}

}  // namespace

struct Scheduler::State {
  int64_t pages;
  Batcher batcher;
  Compute compute;
  StepPlan plan{};
  EngineStatistics none{};  // of what is no engine
  const EngineStatistics* statistics = &none;
};

Scheduler::Scheduler(const BatchLimits& limits, const Tokenizer& tokenizer, Compute compute)
    : state_(new State{limits.pages, Batcher(limits, tokenizer), std::move(compute)}) {}

Scheduler::Scheduler(Engine& engine, Communicator& communicator, const Tokenizer& tokenizer,
                     const SchedulerOptions& options)
    : Scheduler(limits_of(engine, options), tokenizer,
                [&](StepPlan& plan) { return compute_on(engine, communicator, plan); }) {
  PLEAT_ASSERT(communicator.rank() == 0, "rank 0 decides");
  state_->statistics = &engine.statistics();
}
Scheduler::~Scheduler() = default;

void Scheduler::submit(Request request, Done done, Token token) {
  state_->batcher.submit(std::move(request), std::move(done), std::move(token));
}

bool Scheduler::cancel(const std::string& id) { return state_->batcher.cancel(id); }

bool Scheduler::step() {
  State& s = *state_;
  if (!s.batcher.plan(s.plan)) return false;
  const StepResult result = s.compute(s.plan);
  s.batcher.accept(result.logits, result.best, result.candidates);
  return true;
}

void Scheduler::idle() {
  StepPlan nothing;
  state_->compute(nothing);
}

void Scheduler::stop() {
  StepPlan plan;
  plan.stop = true;
  state_->compute(plan);
}

int64_t Scheduler::queued() const { return state_->batcher.queued(); }
int64_t Scheduler::running() const { return state_->batcher.running(); }
int64_t Scheduler::pages() const { return state_->pages; }
int64_t Scheduler::free_pages() const { return state_->batcher.free_pages(); }
int64_t Scheduler::generated_tokens() const { return state_->batcher.generated_tokens(); }
int64_t Scheduler::prompt_tokens() const { return state_->batcher.prompt_tokens(); }
int64_t Scheduler::reused_tokens() const { return state_->batcher.reused_tokens(); }
int64_t Scheduler::preemptions() const { return state_->batcher.preemptions(); }
const EngineStatistics& Scheduler::statistics() const { return *state_->statistics; }

}  // namespace pleat
