#pragma once
// Rank 0's decisions: which sequences run, which tokens a step holds, which pages they use (continuous batching,
// chunked prefill), prompts that begin in the same way sharing pages, and who gives way when pages run out (batcher.h).
#include <functional>
#include <memory>
#include <string>

#include "core/engine/engine.h"
#include "core/engine/request.h"
#include "core/text/tokenizer.h"

namespace pleat {

struct SchedulerOptions {
  int max_batch = 16;        // sequences that decode together
  int prefill_chunk = 256;   // prompt tokens of one step
  bool fold_prompt = false;  // prompts folded too
};

struct BatchLimits;  // batcher.h

// What a step gave for its wanted rows, valid until the next one; see Batcher::accept.
struct StepResult {
  MatrixView<const float> logits;
  std::span<const int32_t> best;
  std::span<const RowCandidates> candidates{};
};

class Scheduler {
 public:
  // Computes a plan on all ranks. One without rows only says that this rank is alive, or that steps stop.
  using Compute = std::function<StepResult(StepPlan& plan)>;
  using Done = std::function<void(Completion)>;
  using Token = std::function<void(const std::string& id, const Piece& piece)>;  // once a token

  Scheduler(Engine& engine, Communicator& communicator, const Tokenizer& tokenizer, const SchedulerOptions& options);
  // Over whatever computes: a simulator has a rule in the engine's place.
  Scheduler(const BatchLimits& limits, const Tokenizer& tokenizer, Compute compute);
  ~Scheduler();

  // Queues it. Error(invalid) if it can never run (longer than the context, impossible sampling).
  void submit(Request request, Done done, Token token = {});
  // Ends it without a completion, waiting or running; what it held is free for the next step. False: there is none of
  // this id any more. Between steps.
  bool cancel(const std::string& id);
  // Runs one step on all ranks (broadcasts the plan). False: nothing is queued or running, and nothing was sent.
  bool step();
  // Tells the other ranks that this one is alive: often enough for the communicator's deadline while nothing runs.
  void idle();
  // Ends serve_steps() on the other ranks.
  void stop();

  int64_t queued() const;
  int64_t running() const;
  int64_t pages() const;  // of the key-value cache
  int64_t free_pages() const;
  int64_t generated_tokens() const;
  int64_t prompt_tokens() const;               // computed, and those of texts begun before
  int64_t reused_tokens() const;               // of prompts, found in the cache
  int64_t preemptions() const;                 // times a sequence gave way
  const EngineStatistics& statistics() const;  // of rank 0

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pleat
