#pragma once
// Executes steps of one model on one rank. All ranks construct it and execute the same plans.
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/engine/candidates.h"
#include "core/engine/step_plan.h"
#include "core/engine/weights.h"
#include "core/model/blueprint.h"
#include "kernels/check.h"
#include "kernels/context.h"
#include "parallel/communicator.h"
#include "parallel/device_sums.h"
#include "parallel/shard_plan.h"

namespace pleat {

struct EngineOptions {
  int max_rows = 512;             // rows of one step (prompt chunk + decode rows)
  int max_logit_rows = 64;        // of them with logits
  int max_sequences = 64;         // slots of a plan's sequences: [0, max_sequences)
  int64_t kv_tokens = 0;          // cache capacity in tokens; 0: 16 full contexts, less where memory is short
  std::optional<DType> kv_dtype;  // of the cache: bf16, i8 or f32; none: bf16, or f32 where a folder is loaded in f32
  double key_channels = 1;   // share of the key channels that older tokens keep after the prompt (see key_channels.h)
  int64_t recall_every = 0;  // in one step of so many rank 0 measures its predictors on a generated row; 0: never
  DeviceSums device_sums = DeviceSums::automatic;
  bool phases = false;  // times a device's steps by phases, which costs them some time; the CPU's always are
};

// Sees, and may change, each layer's FFN: calibration, reports, measurements of one layer's error. One rank only.
class FfnHook {
 public:
  virtual ~FfnHook() = default;
  // x [rows, d]: the FFN's input (after the norm). y [rows, d]: its output, about to be added to the residual stream.
  virtual void ffn(int layer, const StepPlan& plan, MatrixView<const float> x, MatrixView<float> y) = 0;
};

// Sees the named intermediate values of a step (tests against an author's shipped intermediates).
class StageObserver {
 public:
  virtual ~StageObserver() = default;
  virtual void stage(const char* name, int layer, MatrixView<const float> value) = 0;
};

// Thrown by a step of several ranks that fails on this one: the others wait in it, so there is nobody to agree with.
class StepError : public Error {
 public:
  using Error::Error;
};

// What the steps so far cost this rank.
struct EngineStatistics {
  int64_t steps = 0;
  int64_t rows = 0, folded_rows = 0;
  int64_t folded_steps = 0;       // steps with at least one folded row
  std::vector<int64_t> fallback;  // [layers] sum over folded rows of |S| on this rank
  std::vector<int64_t> gathered;  // [layers] sum over gathers of the union's size
  std::vector<int64_t> choices;   // [layers] this rank's neurons where each row, or prompt, chooses among them, else 0
  // [layers] of the rows measured by recall_every: neurons that the exact values choose, and those of them that the
  // predictor chose too. Where no predictor chooses both stay 0.
  std::vector<int64_t> needed, found;
  int64_t ffn_bytes_read = 0;   // by folded rows: fold, predictor, constants and gathered rows
  int64_t ffn_bytes_dense = 0;  // what the same rows would have read densely in bf16
  enum Phase { attention, dense_ffn, fold, predictor, fixup, collective, head, other, phases };
  double seconds[phases] = {};
  int64_t bytes[phases] = {};  // weight bytes streamed
  struct Waits {
    int64_t barriers = 0;  // of this rank's threads
    double barrier_seconds = 0;
    int64_t collectives = 0;
    double collective_seconds = 0;
    double peer_seconds = 0;  // of them, waiting for another rank
    int64_t bytes_sent = 0;
  } waits;
};

// By EngineStatistics::Phase.
using PhaseBytes = std::array<int64_t, EngineStatistics::phases>;
using PhaseSeconds = std::array<double, EngineStatistics::phases>;

// Executes a rank's plans somewhere else than on the CPU.
class StepExecutor {
 public:
  virtual ~StepExecutor() = default;
  virtual void step(const StepPlan& plan) = 0;
  // Of this rank's part of the vocabulary, until the next step; what the plan does not want is empty.
  virtual MatrixView<const float> logits() const = 0;             // [wanted rows, V_r] where the mode gives logits
  virtual std::span<const TokenCandidate> best() const = 0;       // [wanted rows]      after LogitsMode::argmax; NaN
                                                                  // where a logit is
  virtual std::span<const RowCandidates> candidates() const = 0;  // [wanted rows]      where it gives candidates
  virtual int64_t kv_pages() const = 0;                           // of its cache, the same on all ranks
  // That the last step read; of neurons that it chose anew for some of its rows, the last rows' stand for all.
  virtual PhaseBytes weight_bytes() const = 0;
  virtual PhaseSeconds phase_seconds() const = 0;  // of the last step; 0 without EngineOptions::phases
};
// Has a rank's weights there, and then makes what runs its steps.
class ExecutorBuilder : public WeightTaker {
 public:
  // Collective; once, when it has all weights. options: the engine's, kv_tokens being what the key-value cache should
  // hold; less where memory is short.
  virtual std::unique_ptr<StepExecutor> build(Communicator& communicator, const EngineOptions& options) = 0;
};

// What there is besides the CPU to run steps on.
struct Backend {
  // Collective, before weights are loaded, by the rank's own thread: takes what this rank runs on. Error where the
  // ranks cannot run on what they have.
  std::function<void(Communicator&)> take;
  // By the same thread, after it.
  std::function<std::unique_ptr<ExecutorBuilder>(const Blueprint& blueprint, const ShardPlan& plan, int rank)> begin;
};

class Engine {
 public:
  // builder: has the weights and makes what runs the steps, of which hooks and observers then see nothing, and
  // statistics no phases unless they are asked for; nullptr: the CPU.
  Engine(const Blueprint& blueprint, Weights weights, const ShardPlan& plan, Communicator& communicator,
         Context& context, const EngineOptions& options, ExecutorBuilder* builder = nullptr);
  ~Engine();

  const Blueprint& blueprint() const;
  int64_t kv_pages() const;  // the same on all ranks
  const EngineOptions& options() const;
  // What the cache holds of a prompt depends on its tokens alone and stays as it was written, so that sequences may
  // share pages: the CPU computes it, no set of neurons is chosen by the whole prompt, no page's keys are cut later.
  bool shares_prefixes() const;
  // A layer keeps neurons by what the prompt showed of them, densely.
  bool chooses_by_prompt() const;
  // Plans may ask for candidates. (The CPU has its logits where the sampler reads them.)
  bool gives_candidates() const;

  // Collective. The results below are valid on rank 0 until the next step.
  void step(const StepPlan& plan);
  // A step of dense rows from layer `first` on, x [rows, d] being the residual stream in front of it (one rank only).
  void resume(const StepPlan& plan, int first, MatrixView<const float> x);
  MatrixView<const float> logits() const;  // [wanted rows, vocab] where the plan's mode gives logits
  // [wanted rows] after LogitsMode::argmax; -1 where the logits hold NaN or no finite value
  const std::vector<int32_t>& best_tokens() const;
  std::span<const RowCandidates> candidates() const;  // [wanted rows]        where it gives candidates

  void set_ffn_hook(FfnHook* hook);
  void set_observer(StageObserver* observer);
  PhaseBytes executor_bytes() const;  // StepExecutor::weight_bytes(); 0 on the CPU
  const EngineStatistics& statistics() const;
  void reset_statistics();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// For ranks other than 0: executes plans until one says stop.
void serve_steps(Engine& engine, Communicator& communicator);

// Everything needed to run a model folder on this rank, wired together.
struct LoadedModel {
  Blueprint blueprint;
  std::unique_ptr<Context> context;
  std::unique_ptr<Engine> engine;
  int64_t bytes_read = 0;    // from the checkpoint by this rank
  int64_t weight_bytes = 0;  // held by this rank
};

struct LoadOptions {
  WeightFormat dtype = WeightFormat::bf16;  // --dtype: bf16 or f32
  int threads = 1;
  bool oversubscribed = false;
  Reduction reduction = Reduction::invariant;
  bool dense = false;  // run a folded checkpoint densely
  Backend backend;     // none: the CPU
  EngineOptions engine;
  // How far loading is: parts of `parts` that are done, and what this rank has read. Never called twice at a time.
  std::function<void(int done, int parts, int64_t bytes)> progress;
};

// What a plan for the model is made from.
ModelSizes sizes_of(const Blueprint& blueprint);

LoadedModel load_model(const std::string& folder, Communicator& communicator, const LoadOptions& options);

}  // namespace pleat
