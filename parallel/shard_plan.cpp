#include "parallel/shard_plan.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/matmul.h"

namespace pleat {

ShardPlan::ShardPlan(const ModelSizes& sizes, int ranks, Reduction reduction)
    : sizes_(sizes), ranks_(ranks), reduction_(reduction) {
  PLEAT_REQUIRE(ranks >= 1, "a model cannot be split over ", ranks, " ranks");
  PLEAT_REQUIRE(sizes.hidden > 0 && sizes.vocab > 0 && sizes.neurons > 0 && sizes.heads > 0 && sizes.kv_heads > 0,
                "a model needs a positive hidden size, vocabulary, FFN width and number of heads");
  PLEAT_REQUIRE(sizes.heads % sizes.kv_heads == 0, sizes.heads, " query heads do not divide over ", sizes.kv_heads,
                " key-value heads");
  PLEAT_REQUIRE(ranks <= sizes.vocab, "more ranks (", ranks, ") than vocabulary rows (", sizes.vocab, ")");
  if (reduction == Reduction::invariant) {
    attention_ = TreeExchange(sizes.heads, ranks);
    ffn_ = TreeExchange(kVirtualShards, ranks);
  } else {
    attention_ = TreeExchange::one_sum_a_rank(sizes.heads, ranks);
    ffn_ = TreeExchange(ranks, ranks);
  }
}

ShardPlan ShardPlan::with_neurons(int64_t neurons) const {
  ShardPlan plan = *this;
  plan.sizes_.neurons = neurons;
  return plan;
}

Range ShardPlan::heads(int rank) const {
  return {first_leaf(sizes_.heads, ranks_, rank), first_leaf(sizes_.heads, ranks_, rank + 1)};
}

Range ShardPlan::kv_heads(int rank) const {
  const Range query = heads(rank);
  const int64_t group = sizes_.heads / sizes_.kv_heads;
  if (query.size() == 0) return {query.begin / group, query.begin / group};
  return {query.begin / group, (query.end - 1) / group + 1};
}

Range ShardPlan::vocab(int rank) const { return {sizes_.vocab * rank / ranks_, sizes_.vocab * (rank + 1) / ranks_}; }

Range ShardPlan::ffn_leaves(int rank) const {
  return {first_leaf(ffn_.leaves, ranks_, rank), first_leaf(ffn_.leaves, ranks_, rank + 1)};
}

Range ShardPlan::neurons(int rank) const {
  const Range leaves = ffn_leaves(rank);
  return {neuron_begin(int(leaves.begin)), neuron_begin(int(leaves.end))};
}

Range ShardPlan::fold_inputs(int rank) const {
  const Range leaves = ffn_leaves(rank);
  return {fold_input_begin(int(leaves.begin)), fold_input_begin(int(leaves.end))};
}

std::vector<int64_t> ShardPlan::neuron_offsets(int rank) const {
  const Range leaves = ffn_leaves(rank);
  std::vector<int64_t> offsets;
  for (int64_t leaf = leaves.begin; leaf <= leaves.end; ++leaf) {
    offsets.push_back(neuron_begin(int(leaf)) - neuron_begin(int(leaves.begin)));
  }
  return offsets;
}

std::vector<int64_t> ShardPlan::fold_offsets(int rank) const {
  const Range leaves = ffn_leaves(rank);
  std::vector<int64_t> offsets;
  for (int64_t leaf = leaves.begin; leaf <= leaves.end; ++leaf) {
    offsets.push_back(fold_input_begin(int(leaf)) - fold_input_begin(int(leaves.begin)));
  }
  return offsets;
}

int64_t ShardPlan::neuron_begin(int leaf) const {
  const int64_t units = (sizes_.neurons + sizes_.neuron_unit - 1) / sizes_.neuron_unit;
  return std::min(sizes_.neurons, units * leaf / ffn_.leaves * sizes_.neuron_unit);
}

// Whole groups of kGroup inputs, because a group shares a scale; with fewer groups than leaves some leaves are empty.
int64_t ShardPlan::fold_input_begin(int leaf) const {
  const int64_t groups = (sizes_.hidden + kGroup - 1) / kGroup;
  return std::min(sizes_.hidden, first_leaf(int(groups), ffn_.leaves, leaf) * kGroup);
}

std::vector<std::string> ShardPlan::notes() const {
  std::vector<std::string> notes;
  const auto largest = [&](auto range) {
    int64_t most = 0;
    for (int rank = 0; rank < ranks_; ++rank) most = std::max(most, (this->*range)(rank).size());
    return most;
  };
  const auto idle = [&](auto range) {
    int count = 0;
    for (int rank = 0; rank < ranks_; ++rank) count += (this->*range)(rank).size() == 0;
    return count;
  };
  if (const int count = idle(&ShardPlan::heads)) {
    notes.push_back(concat(count, " of ", ranks_, " ranks hold no attention: the model has ", sizes_.heads, " heads"));
  } else if (sizes_.heads % ranks_ != 0) {
    notes.push_back(concat(sizes_.heads, " heads do not divide by ", ranks_, " ranks: the fullest rank holds ",
                           largest(&ShardPlan::heads), " where ", double(sizes_.heads) / ranks_, " would be even"));
  }
  if (sizes_.kv_heads < std::min(ranks_, sizes_.heads)) {
    notes.push_back(concat("the ", sizes_.kv_heads, " key-value heads are held by several ranks each"));
  }
  if (const int count = idle(&ShardPlan::neurons)) {
    notes.push_back(
        concat(count, " of ", ranks_, " ranks hold no FFN: the neurons stand in ", ffn_.leaves, " virtual shards"));
  } else if (ffn_.leaves % ranks_ != 0) {
    notes.push_back(concat(ffn_.leaves, " virtual shards do not divide by ", ranks_, " ranks: the fullest rank holds ",
                           largest(&ShardPlan::neurons), " of ", sizes_.neurons, " neurons"));
  }
  return notes;
}

}  // namespace pleat
