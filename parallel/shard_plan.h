#pragma once
// Who holds what: the split of one model over R ranks (docs/architecture.md, tensor parallelism). A pure function of
// sizes.
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/reduce_tree.h"
#include "parallel/communicator.h"

namespace pleat {

struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

// invariant: sums follow one tree over fixed virtual shards, the same bits at any R. fast: one partial sum a rank.
enum class Reduction : uint8_t { invariant, fast };

struct ModelSizes {
  int64_t hidden = 0, vocab = 0, neurons = 0;
  int heads = 0, kv_heads = 0;
  int64_t neuron_unit = 1;  // neurons that are not split: a quantised down matrix shares scales between kGroup of them
};

constexpr int kVirtualShards = 32;

class ShardPlan {
 public:
  // Error(invalid) in one sentence if `ranks` < 1 or more ranks than vocabulary rows. Ranks beyond the number of heads
  // hold no attention; ranks beyond kVirtualShards (invariant) hold no FFN: notes() says so.
  ShardPlan(const ModelSizes& sizes, int ranks, Reduction reduction);

  int ranks() const { return ranks_; }
  Reduction reduction() const { return reduction_; }
  const ModelSizes& sizes() const { return sizes_; }
  // The same split of another FFN width (a layer that keeps some of its neurons).
  ShardPlan with_neurons(int64_t neurons) const;

  Range heads(int rank) const;        // query heads = leaves of the attention tree
  Range kv_heads(int rank) const;     // those the rank's query heads read (replicated where shared)
  Range vocab(int rank) const;        // rows of embedding and head
  Range ffn_leaves(int rank) const;   // virtual shards
  Range neurons(int rank) const;      // exact FFN rows; union of its virtual shards
  Range fold_inputs(int rank) const;  // rows of C; multiples of kGroup (or the end)

  // First neuron / first fold input of every virtual shard of the rank, closed by the end, relative to the rank's own
  // range: leaf_offsets for PackedMatrix.
  std::vector<int64_t> neuron_offsets(int rank) const;
  std::vector<int64_t> fold_offsets(int rank) const;

  const TreeExchange& attention_exchange() const { return attention_; }  // leaves: heads
  const TreeExchange& ffn_exchange() const { return ffn_; }              // leaves: virtual shards

  // Both sums in one message, for models whose attention and FFN are added together: attention's nodes, then the
  // FFN's.
  TreeExchange joint_exchange() const { return TreeExchange::joint(attention_, ffn_); }

  // One sentence for each thing that could not be split evenly enough to use all ranks.
  std::vector<std::string> notes() const;

 private:
  int64_t neuron_begin(int leaf) const;      // balanced units of sizes().neuron_unit neurons
  int64_t fold_input_begin(int leaf) const;  // ceil-balanced groups of kGroup inputs
  ModelSizes sizes_;
  int ranks_;
  Reduction reduction_;
  TreeExchange attention_, ffn_;
};

}  // namespace pleat
