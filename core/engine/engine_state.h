#pragma once
// The engine's insides: work_space.cpp (at start), and the files that execute a step: engine.cpp (order of things),
// layer.cpp, attention_block.cpp, ffn_block.cpp, ffn_products.cpp, recall.cpp, logits.cpp.
#include <chrono>

#include "core/engine/engine.h"
#include "core/engine/key_channels.h"
#include "core/engine/node_buffer.h"
#include "core/engine/prompt_selection.h"
#include "kernels/attention.h"

namespace pleat {

struct Engine::State {
  State(const Blueprint& blueprint, Weights weights, const ShardPlan& plan, Communicator& communicator,
        Context& context, const EngineOptions& options, ExecutorBuilder* builder);

  // ---- one step, in this order
  void begin(const StepPlan& step_plan);
  void order_rows(const StepPlan& step_plan);
  void embed();
  void run_layers(const StepPlan& step_plan, int first);
  void layer(int layer, const StepPlan& step_plan);
  void attend(int layer);                          // normed -> this rank's partial sums of the attention's output
  void ffn(int layer, const StepPlan& step_plan);  // normed -> those of the FFN's output
  void add_attention(int layer);
  void add_ffn(int layer, const StepPlan& step_plan);
  void add_both(int layer, const StepPlan& step_plan);
  void compute_logits(LogitsMode mode);
  // To rank 0, from every rank's local [wanted rows, V_r], its best ones, or its candidates [wanted rows].
  void gather_logits(MatrixView<const float> local);
  void gather_best(std::span<const TokenCandidate> local);
  void gather_candidates(std::span<const RowCandidates> local);
  void count_step();
  void step_elsewhere(const StepPlan& step_plan);

  // y = norm(x), or x itself where the model has no such norm; y may be x.
  void normalise(const NormWeights& norm, MatrixView<const float> in, MatrixView<float> out);
  void prepare_rotaries();
  void position_heads(int layer);  // normalises and rotates queries and keys
  AttentionScores scores(int layer) const;
  void add_ffn_bias(int layer, MatrixView<float> out);

  // ---- the FFN's parts (ffn_block.cpp)
  void dense_ffn(int layer, int64_t row, int64_t count);
  void folded_ffn(int layer, const StepPlan& step_plan, int64_t row, int64_t count);
  int64_t first_folded(const LayerWeights& w) const;
  MatrixView<float> activations(int layer, MatrixView<const float> input, const Selection* cut);
  // leaves += what the exact neurons add to the fold, by the layer's selection.
  void add_exact(int layer, const StepPlan& step_plan, int64_t row, MatrixView<const float> input);
  void fix_up_by_range(const LayerWeights& w, MatrixView<const float> input);
  void fix_up_by_activation(const LayerWeights& w, MatrixView<const float> input);
  void fix_up_by_product(const LayerWeights& w, MatrixView<const float> input, const Selection& cut);
  void fix_up_by_predictor(const LayerWeights& w, MatrixView<const float> input);
  void fix_up_selected(const LayerWeights& w, MatrixView<const float> input);
  void add_held(int layer, MatrixView<const float> input);
  void keep_lines(const LayerWeights& w, MatrixView<const float> up, MatrixView<const float> gates);
  void remember_prompts(int layer, const StepPlan& step_plan);
  int64_t gathered_bytes(const LayerWeights& w) const;
  int64_t held_bytes(const LayerWeights& w) const;
  void count_bytes(const LayerWeights& w, int64_t gathered);
  void measure_recall(int layer, MatrixView<const float> input);  // recall.cpp
  // ---- gate and up, or W1 (ffn_products.cpp). cut: the inputs that each row reads; nullptr: all
  void up_product(const LayerWeights& w, MatrixView<const float> input, const Selection* cut, MatrixView<float> out);
  void gate_product(const LayerWeights& w, MatrixView<const float> input, const Selection* cut, MatrixView<float> out);
  const Selection* cut_inputs(const LayerWeights& w, MatrixView<const float> input);  // of rows that run folded
  int64_t cut_bytes(const LayerWeights& w) const;                                     // that these rows read
  void start_statistics();
  // ---- at start (work_space.cpp)
  void make_room_for_results();
  void make_work_space();
  int64_t wanted_pages() const;
  void allocate_cache();
  void run_on(ExecutorBuilder& builder);

  EngineStatistics::Waits waits_so_far();  // since the start of the process's team and communicator
  // Time and weight bytes since the previous lap belong to `phase`.
  void lap(EngineStatistics::Phase phase, size_t bytes = 0);
  void observe(const char* name, int layer, MatrixView<const float> value) {
    if (observer) observer->stage(name, layer, value);
  }
  MatrixView<float> view(std::vector<float>& values, int64_t width) { return {values.data(), rows, width}; }

  Blueprint blueprint;
  Weights weights;
  ShardPlan plan;
  Communicator& communicator;
  Context& context;
  EngineOptions options;

  // this rank's shares
  int rank;
  int64_t d, q_width, kv_width;
  int64_t neurons;  // the most of a layer
  std::vector<TreeNode> attention_nodes, ffn_nodes, ffn_leaves;
  TreeExchange joint_exchange;       // of both, for models that add them together
  TreeExchange embedding_exchange;   // one part a rank
  std::vector<int> kv_of_head;       // [q heads], local kv head
  std::vector<RotaryAngles> angles;  // [rotaries] of the step's rows
  Buffer cache_memory;
  std::vector<KvCache> caches;  // [layers]
  KeyChannels key_channels;
  int64_t pages = 0;

  // the step's rows: dense ones first, then folded ones
  int64_t rows = 0, dense_rows = 0;
  bool folds = false;  // a layer's generated tokens run folded
  std::vector<StepRow> ordered;
  std::vector<AttentionRow> attention_rows;
  std::vector<int32_t> logit_rows;  // ordered row of each wanted one, in the plan's order

  // work space, sized for max_rows at start
  std::vector<float> x, normed, sum;   // [rows, d], wide enough for embeddings
  std::vector<float> query_key_value;  // [rows, q_width + 2 kv_width]
  std::vector<float> attended;         // [rows, q_width]
  std::vector<float> hidden, gate;     // [rows, neurons]; gate: of gated FFNs, and where z is kept
  Buffer leaves;                       // f32 [virtual shards][kMaxSharedRows, d]
  std::vector<float> held_leaves;      // the same, of selection static
  NodeBuffer sums;                     // of attention's and the FFN's nodes, in this order
  Selection selection;
  Selection inputs;                                   // that the rows read, in leaves of kGroup, where they are cut
  std::vector<float> products;                        // act(g) u [kMaxSharedRows, neurons], where threshold compares it
  std::unique_ptr<Selection> exact_selection;         // where recall is measured
  bool measures_recall = false;                       // in this step
  std::unique_ptr<PromptSelection> prompt_selection;  // where a layer has such a selection
  std::vector<float> prompt_values, prompt_norms;     // [rows, neurons], [rows] of it
  std::vector<float> prompt_squares;                  // [leaves and nodes, rows]
  std::vector<float> local_logits, all_logits, gathered_logits;
  std::vector<TokenCandidate> local_best, gathered_best;
  std::vector<RowCandidates> gathered_candidates;  // [ranks][wanted rows]; the first of them are then the merged ones
  std::vector<int64_t> gather_bytes;               // [ranks]
  std::vector<int32_t> best;

  std::unique_ptr<StepExecutor> executor;  // none: this CPU
  FfnHook* hook = nullptr;
  StageObserver* observer = nullptr;
  EngineStatistics statistics;
  std::chrono::steady_clock::time_point last_lap;
  EngineStatistics::Waits waits_before;  // the step
};

}  // namespace pleat
