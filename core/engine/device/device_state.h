#pragma once
// A device step's insides: device_step.cpp (order of things, attention), device_ffn.cpp.
#include <map>
#include <span>

#include "core/engine/device/device_step.h"
#include "core/engine/device/device_weights.h"
#include "kernels/cuda/candidates.h"
#include "kernels/cuda/kv_append.h"
#include "kernels/cuda/paged_rows.h"
#include "kernels/kv_cache.h"
#include "parallel/device/device_sum.h"

namespace pleat {

// The numbers of a rotary embedding on the device.
struct RotaryOnDevice {
  DeviceVector frequency;
  cuda::DeviceRotary rule;
};

// What of the rows the launches of a pass depend on; all else they read on the device. Few shapes, so that each can be
// a captured graph: rows beyond the plan's are copies of its last one.
struct PassShape {
  int rows = 0;         // 1, 2, 4, 8 or 16
  int table_pages = 0;  // of the longest row's page table, a power of two or all that there can be
  bool folded = false;
  auto operator<=>(const PassShape&) const = default;
};

// The order of a step's launches.
struct DeviceStep::State {
  State(const Blueprint& blueprint, const Weights& host, const ShardPlan& plan, Communicator& communicator,
        int64_t kv_tokens);

  // Rows [begin, end) of a plan, up to the end of all work: at most kMaxRows, all folded or none.
  void pass(const StepPlan& step_plan, int begin, int end);
  void upload_rows(const StepPlan& step_plan, int begin, int end);
  // A shape that comes again is captured, from then on one launch runs its layers.
  void run_layers(int64_t step);
  void layers(int64_t step);
  void embed();
  void normalise(const DeviceNorm& norm);           // normed = norm(residual)
  void attend(int layer);                           // normed -> this rank's nodes of the attention's output
  void ffn(const DeviceLayer& layer, bool folded);  // normed -> its nodes of the FFN's output
  // residual += the sum of all ranks' nodes + bias; normed = norm(residual)
  void add_attention(const DeviceLayer& layer);
  void add_ffn(const DeviceLayer& layer, const DeviceNorm& next, bool folded);
  void add_both(const DeviceLayer& layer, const DeviceNorm& next, bool folded);
  void dense_ffn(const DeviceLayer& layer);
  void gathered_ffn(const DeviceLayer& layer, bool folded);
  void select(const DeviceLayer& layer, const cuda::RowInput& input, const cuda::DeviceSelection& selection);
  void fix_up(const DeviceLayer& layer, const cuda::RowInput& input, const cuda::DeviceSelection& selection,
              bool folded);
  int64_t bytes_of_pass(bool folded) const;  // of weights; waits for the stream
  int64_t folded_bytes(const DeviceLayer& layer, const cuda::DeviceSelection& selection) const;
  void head();  // normed -> device_logits, of all rows
  // Wait for the pass and keep what the plan wants of these rows.
  void read_logits(std::span<const StepRow> rows);
  void read_best(std::span<const StepRow> rows);

  // Quantised for w where that is in low bits.
  cuda::RowInput input(const DeviceVector& x, int width, const cuda::Rows& w);
  cuda::StreamHandle handle() const { return stream.get(); }
  cuda::Norm rule(const DeviceNorm& norm) const;
  float* ffn_nodes() const { return nodes.data() + attention_nodes * shape.rows * d; }

  Blueprint blueprint;
  ShardPlan plan;
  Communicator& communicator;
  int rank;
  cuda::Stream stream;
  DeviceWeights weights;
  int d, q_width, kv_width, vocab, neurons = 0;  // the last four: of this rank
  int attention_nodes;
  TreeExchange joint_exchange, embedding_exchange;
  std::unique_ptr<DeviceSum> sum;
  std::vector<int> kv_of_head;
  std::vector<RotaryOnDevice> rotaries;
  DeviceVector slopes;
  cuda::DeviceArray<std::byte> cache_memory;
  std::vector<KvCache> caches;
  std::vector<cuda::DeviceSelection> selections;  // [layers]

  PassShape shape;                                           // of the pass that runs
  int64_t passes[2] = {};                                    // of the last step: of prompts, of generated tokens
  std::map<PassShape, std::unique_ptr<cuda::Graph>> graphs;  // nullptr: has come once
  int most_pages;
  cuda::PinnedArray<int32_t> host_rows;  // what a pass uploads: tokens, positions, page tables
  cuda::DeviceArray<int32_t> device_rows, table_of;
  DeviceVector residual, normed, query_key_value, attended, up, gate, attention_work, device_logits;
  DeviceVector nodes;               // attention's, then the FFN's [rows, d]
  DeviceVector of_leaves, of_bins;  // of a folded FFN: [leaves][rows, d], [bins][rows, d]
  cuda::QuantisedRows by_hidden, by_neurons, by_heads;
  cuda::PinnedArray<float> host_logits;
  std::vector<float> logits;
  cuda::CandidateFinder finder;
  cuda::DeviceArray<cuda::Candidate> device_best;
  cuda::DeviceArray<cuda::LogitSum> logit_sums;
  cuda::PinnedArray<cuda::Candidate> host_best;
  std::vector<TokenCandidate> best;
};

}  // namespace pleat
