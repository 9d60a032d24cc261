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
  limits.share_prefixes = engine.shares_prefixes();
  limits.vocab = engine.blueprint().vocab;
  limits.max_positions = engine.blueprint().max_positions;
  limits.end_tokens = engine.blueprint().end_tokens;
  limits.pages = engine.kv_pages();
  return limits;
}

}  // namespace

struct Scheduler::State {
  Engine& engine;
  Communicator& communicator;
  Batcher batcher;
  StepPlan plan;
};

Scheduler::Scheduler(Engine& engine, Communicator& communicator, const Tokenizer& tokenizer,
                     const SchedulerOptions& options)
    : state_(new State{engine, communicator, Batcher(limits_of(engine, options), tokenizer), {}}) {
  PLEAT_ASSERT(communicator.rank() == 0, "rank 0 decides");
}
Scheduler::~Scheduler() = default;

void Scheduler::submit(Request request, Done done, Token token) {
  state_->batcher.submit(std::move(request), std::move(done), std::move(token));
}

bool Scheduler::cancel(const std::string& id) { return state_->batcher.cancel(id); }

bool Scheduler::step() {
  State& s = *state_;
  if (!s.batcher.plan(s.plan)) return false;
  broadcast_plan(s.communicator, s.plan);
  s.engine.step(s.plan);
  s.batcher.accept(s.plan.logits == LogitsMode::full ? s.engine.logits() : MatrixView<const float>(),
                   s.engine.best_tokens());
  return true;
}

void Scheduler::idle() {
  StepPlan nothing;
  broadcast_plan(state_->communicator, nothing);
}

void Scheduler::stop() {
  StepPlan plan;
  plan.stop = true;
  broadcast_plan(state_->communicator, plan);
}

int64_t Scheduler::queued() const { return state_->batcher.queued(); }
int64_t Scheduler::running() const { return state_->batcher.running(); }
int64_t Scheduler::pages() const { return state_->engine.kv_pages(); }
int64_t Scheduler::free_pages() const { return state_->batcher.free_pages(); }
int64_t Scheduler::generated_tokens() const { return state_->batcher.generated_tokens(); }
int64_t Scheduler::prompt_tokens() const { return state_->batcher.prompt_tokens(); }
int64_t Scheduler::reused_tokens() const { return state_->batcher.reused_tokens(); }
int64_t Scheduler::preemptions() const { return state_->batcher.preemptions(); }
const EngineStatistics& Scheduler::statistics() const { return state_->engine.statistics(); }

}  // namespace pleat
