#pragma once
// A device step's insides: device_state.cpp (memory), device_step.cpp (order of things), device_attention.cpp,
// device_ffn.cpp and device_logits.cpp.
#include <map>
#include <span>

#include "core/engine/device/device_key_channels.h"
#include "core/engine/device/device_step.h"
#include "core/engine/device/device_weights.h"
#include "core/engine/device/phase_marks.h"
#include "kernels/cuda/blas_lt.h"
#include "kernels/cuda/candidates.h"
#include "kernels/cuda/gemm_input.h"
#include "kernels/cuda/kv_append.h"
#include "kernels/cuda/multiply_rows.h"
#include "kernels/cuda/multiply_selected.h"
#include "kernels/cuda/paged_rows.h"
#include "kernels/cuda/transposed_rows.h"
#include "kernels/cuda/widened_planes.h"
#include "kernels/kv_cache.h"
#include "parallel/device/device_sum.h"

namespace pleat {

// The numbers of a rotary embedding on the device.
struct RotaryOnDevice {
  DeviceVector frequency;
  cuda::DeviceRotary rule;
};

constexpr int kPromptRows = 512;  // of a pass over prompts

// What of the rows the launches of a pass depend on; all else they read on the device. Generated tokens have few
// shapes, so that each can be a captured graph: rows beyond the plan's are copies of its last one.
struct PassShape {
  int rows = 0;                          // of generated tokens 1, 2, 4, 8 or 16
  int table_pages = 0;                   // of the longest row's page table, a power of two or all that there can be
  bool prompt = false;                   // densely, by the kernels for many rows; else folded, by those for few
  LogitsMode logits = LogitsMode::none;  // what is wanted of some of the rows
  auto operator<=>(const PassShape&) const = default;
};

// Where a pass's rows lie in what it uploads.
struct RowsUpload {
  int capacity = 0;  // rows; each of these begins behind so many of the one before
  enum Part { tokens, positions, table_of, slots, ends, observed, page_tables };
  size_t at(Part part) const { return size_t(part) * size_t(capacity); }
};

// Of the passes of a shape.
struct CapturedPass {
  PhaseMarks marks;
  std::unique_ptr<cuda::Graph> graph;  // nullptr: has come once, or
  bool has_no_room = false;            // on one of the ranks, for a graph
};

// Of a matrix that is split between ranks at multiples of `unit` outputs. cuBLASLt wants rows of results at multiples
// of 16 bytes: it has the product on every rank, or on none.
inline int64_t all_outputs(int64_t outputs, int64_t unit) { return unit % 4 == 0 ? outputs : 0; }

// The order of a step's launches.
struct DeviceStep::State {
  State(const Blueprint& blueprint, DeviceWeights weights, const ShardPlan& plan, Communicator& communicator,
        const EngineOptions& options);
  void make_cache(const EngineOptions& options);
  void make_work_space(int slots);
  void make_matrix_room();

  // Prompts' rows first, so that a step's rows make few passes; `result_of` keeps the plan's order.
  void order_rows(const StepPlan& step_plan);
  // These rows of a plan, `ordered` from `begin` on, up to the end of all work: at most most_rows(folded), all folded
  // or none.
  void pass(const StepPlan& step_plan, size_t begin, std::span<const int32_t> rows);
  int most_rows(bool folded) const { return folded ? cuda::kMaxRows : upload.capacity; }
  void lay_out_rows(const StepPlan& step_plan, size_t begin, std::span<const int32_t> rows);
  // A shape that comes again is captured, from then on one launch runs it: the copy of its rows to the device, layers,
  // head, and the copy of the results to the host.
  void run(int64_t step);
  void enqueue(int64_t step, bool waits);  // waits: every few layers for those before
  bool may_be_captured() const;
  void capture(CapturedPass& pass, int64_t step);
  // What was enqueued last is of this phase.
  void mark(EngineStatistics::Phase phase) {
    if (measures_phases) marks->mark(phase, stream);
  }
  void layers(int64_t step, bool waits);
  void embed();
  void normalise(const DeviceNorm& norm);  // normed = norm(residual)
  void attend(int layer);                  // normed -> this rank's nodes of the attention's output
  void choose_key_channels(int layer);     // of prompts that end in this pass
  AttentionScores scores(int layer) const;
  void ffn(const DeviceLayer& layer, bool folded);  // normed -> its nodes of the FFN's output
  // residual += the sum of all ranks' nodes + bias; normed = norm(residual)
  void add(const char* name, const TreeExchange& exchange, const float* mine, const float* bias,
           const DeviceNorm& of_output, const DeviceNorm& next);
  void keep_normed();
  void add_attention(const DeviceLayer& layer);
  void add_ffn(const DeviceLayer& layer, const DeviceNorm& next, bool folded);
  void add_both(const DeviceLayer& layer, const DeviceNorm& next, bool folded);
  void dense_ffn(const DeviceLayer& layer);
  void activations(const DeviceLayer& layer);  // normed -> up
  // normed -> up and gate, of a plain FFN up alone, and that activated where an activation is given.
  void input_products(const DeviceLayer& layer, std::optional<Activation> activation = {});
  void cut_products(const DeviceLayer& layer, std::optional<Activation> activation);
  void folded_ffn(const DeviceLayer& layer);
  void known_ffn(const DeviceLayer& layer);  // of selection threshold where inputs are cut
  void held_ffn(const DeviceLayer& layer);   // of selection static
  void multiply_fold(const DeviceLayer& layer);
  bool keeps_lines(const DeviceLayer& layer) const;
  void keep_lines(const DeviceLayer& layer);  // before activations: what a prompt is judged by
  void remember_prompts(const DeviceLayer& layer);
  // Of a layer's tokens that came in a prompt, or were generated.
  bool runs_folded(const DeviceLayer& layer, bool prompt) const {
    return layer.folded && (!prompt || layer.spec.selection == SelectionKind::hot);
  }
  void select(const DeviceLayer& layer, const cuda::DeviceSelection& selection);
  void fix_up(const DeviceLayer& layer, const cuda::RowInput& input, const cuda::DeviceSelection& selection);
  void add_residuals(const DeviceLayer& layer, const cuda::DeviceSelection& selection);
  cuda::DeviceLines lines_of(const DeviceLayer& layer) const;    // zeros where there are none
  PhaseBytes bytes_of_pass(bool folded) const;                   // of weights; waits for the stream
  void add_folded_bytes(size_t index, PhaseBytes& bytes) const;  // of a layer
  // Of rows [first, first + count), at most kMaxRows.
  void head(int first, int count);          // normed -> device_logits
  void find_results(int first, int count);  // normed -> host_logits, host_best, host_sums
  // Waits for the pass and keeps what the plan wants of these rows.
  void read_results(std::span<const int32_t> rows);
  void keep_results(std::span<const int32_t> rows);
  RowCandidates candidates_of(size_t row) const;  // of host_best and host_sums

  // Products of x [rows, width] by the kernels of this pass.
  // all_outputs: of a prompt's products, over all ranks, see above; 0: by own kernels.
  void multiply(const DeviceVector& x, int width, std::initializer_list<cuda::RowProduct> products,
                int64_t all_outputs = 0);
  // Whether cuBLASLt has it: one in bf16 whose inputs this rank has all of, or need not have the same sum as others.
  bool is_for_library(const cuda::RowProduct& product, int64_t all_outputs) const;
  void multiply_queries_keys_values(const DeviceAttention& attention);
  void project_attended(const DeviceAttention& attention);
  void project_neurons(const DeviceLayer& layer);
  // The library loads what it needs before kernels wait for other ranks.
  void load_library();
  bool run_library();
  // Quantised for w where that is in low bits.
  cuda::RowInput input(const float* x, int rows, int width, const cuda::Rows& w);
  cuda::RowInput input(const DeviceVector& x, int width, const cuda::Rows& w);  // of the pass's rows
  const int32_t* uploaded(RowsUpload::Part part) const { return device_rows.data() + upload.at(part); }
  cuda::StreamHandle handle() const { return stream.get(); }
  cuda::Norm rule(const DeviceNorm& norm) const;
  float* ffn_nodes() const { return nodes.data() + attention_nodes * shape.rows * d; }

  Blueprint blueprint;
  ShardPlan plan;
  Communicator& communicator;
  int rank;
  cuda::Stream stream;
  DeviceWeights weights;
  int d, e, q_width, kv_width, vocab, neurons = 0;  // e: width of embeddings; the last four: of this rank
  int attention_nodes;
  TreeExchange joint_exchange, embedding_exchange;
  std::vector<int> kv_of_head;
  std::vector<RotaryOnDevice> rotaries;
  DeviceVector slopes;
  cuda::DeviceArray<std::byte> cache_memory;
  std::vector<KvCache> caches;
  int64_t kv_pages = 0;
  std::optional<DeviceKeyChannels> key_channels;
  std::vector<cuda::DeviceSelection> selections, input_selections;  // [layers]

  std::vector<int32_t> ordered;    // the plan's rows as they are taken
  std::vector<int32_t> result_of;  // [plan's rows] which result a row's is, -1: it wants none
  RowsUpload upload;
  PassShape shape;         // of the pass that runs
  int64_t passes[2] = {};  // of the last step: of prompts, of generated tokens
  const bool measures_phases;
  PhaseMarks uncaptured_marks;
  PhaseMarks* marks = &uncaptured_marks;  // of the pass that runs
  PhaseSeconds phase_seconds{};           // of the last step
  int most_pages;
  cuda::PinnedArray<int32_t> host_rows;  // what a pass uploads: tokens, positions, page tables
  size_t upload_words = 0;               // of it
  cuda::DeviceArray<int32_t> device_rows;
  DeviceVector residual, normed, query_key_value, attended, up, gate, attention_work;
  DeviceVector of_embeddings, head_input;         // [rows, e], [kMaxRows, e], where e is not d
  DeviceVector device_logits;                     // [kMaxRows, vocab]
  DeviceVector nodes;                             // attention's, then the FFN's [rows, d]
  DeviceVector of_leaves, of_shards;              // of a folded FFN: [leaves][rows, d], [shards][rows, d]
  DeviceVector residuals;                         // [kMaxRows, neurons]
  DeviceVector cut_work;                          // of products of selected inputs
  std::map<int, cuda::QuantisedRows> quantisers;  // of few rows, by their width
  // Of prompts.
  std::unique_ptr<cuda::BlasLt> library;  // nullptr: there is none
  cuda::GemmRows many_rows;
  DeviceVector gemm_work;
  cuda::TransposedRows by_output;
  cuda::WidenedPlanes widened;
  DeviceVector of_held;  // of selection static [leaves][rows, d]
  // Of selections prompt and core: what is kept for each layer, [slots, neurons] or nothing, and work space.
  std::vector<DeviceVector> prompt_scores;
  std::vector<cuda::DeviceArray<uint8_t>> prompt_chosen;
  DeviceVector prompt_values, squares, square_nodes, squared_norms;
  cuda::PinnedArray<float> host_logits;
  std::vector<float> logits;
  cuda::CandidateFinder finder;
  cuda::DeviceArray<cuda::Candidate> device_best;
  cuda::DeviceArray<cuda::LogitSum> logit_sums;
  cuda::PinnedArray<cuda::Candidate> host_best;  // [kMaxRows, 1 or kCandidates]
  cuda::PinnedArray<cuda::LogitSum> host_sums;   // [kMaxRows]
  std::vector<TokenCandidate> best;
  std::vector<RowCandidates> candidates;

  // Last, so that they end first: where an error ends all this, the sum ends the waits of other ranks' kernels, and to
  // free memory may wait for those.
  std::unique_ptr<DeviceSum> sum;
  std::map<PassShape, CapturedPass> captured;
};

}  // namespace pleat
