#include "kernels/cuda/sum_order.h"

#include <algorithm>

#include "kernels/check.h"

namespace pleat::cuda {
namespace {

// Appends how often to add after each of the tree's nodes, which are met from left to right.
class Walk {
 public:
  Walk(const std::vector<TreeNode>& nodes, std::vector<int>& adds) : nodes_(nodes), adds_(adds) {}
  void visit(TreeNode node) {
    if (next_ < nodes_.size() && nodes_[next_] == node) {
      ++next_;
      adds_.push_back(0);
      return;
    }
    PLEAT_ASSERT(node.leaves() > 1, "nodes do not cover leaf ", node.begin);
    visit({node.begin, node.middle()});
    visit({node.middle(), node.end});
    ++adds_.back();
  }
  bool done() const { return next_ == nodes_.size(); }

 private:
  const std::vector<TreeNode>& nodes_;
  std::vector<int>& adds_;
  size_t next_ = 0;
};

// The trees' sums are added from left to right.
std::vector<int> adds_after(const std::vector<FinishTree>& finish) {
  std::vector<int> adds;
  for (const FinishTree& tree : finish) {
    const bool first = adds.empty();
    Walk walk(tree.nodes, adds);
    walk.visit({0, tree.leaves});
    PLEAT_ASSERT(walk.done(), "nodes overlap or are not in order");
    if (!first) ++adds.back();
  }
  return adds;
}

void set_nodes(SumOrder& order, int rank, int count) {
  order.nodes[rank] = count;
  order.most_nodes = std::max(order.most_nodes, count);
}

}  // namespace

SumOrder SumOrder::by_rank(int ranks) {
  PLEAT_REQUIRE(ranks <= kMaxRanks, "an all-reduce of at most ", kMaxRanks, " ranks, not ", ranks);
  SumOrder order;
  order.terms = order.ranks = ranks;
  for (int rank = 0; rank < ranks; ++rank) {
    order.term[rank] = {uint8_t(rank), 0, uint8_t(rank > 0)};
    set_nodes(order, rank, 1);
  }
  return order;
}

SumOrder SumOrder::by_trees(const std::vector<std::vector<TreeNode>>& nodes, const std::vector<FinishTree>& finish,
                            const std::vector<int>& place) {
  PLEAT_REQUIRE(nodes.size() <= kMaxRanks, "an all-reduce of at most ", kMaxRanks, " ranks, not ", nodes.size());
  PLEAT_REQUIRE(place.size() <= kMaxTerms, "an all-reduce of at most ", kMaxTerms, " partial sums, not ", place.size());
  const std::vector<int> adds = adds_after(finish);
  PLEAT_ASSERT(adds.size() == place.size(), "as many terms as nodes");
  SumOrder order;
  order.terms = int(adds.size());
  order.ranks = int(nodes.size());
  const int* to = place.data();
  for (int rank = 0; rank < order.ranks; ++rank) {
    set_nodes(order, rank, int(nodes[rank].size()));
    for (int node = 0; node < order.nodes[rank]; ++node, ++to)
      order.term[*to] = {uint8_t(rank), uint8_t(node), uint8_t(adds[*to])};
  }
  int pending = 0;
  for (const int count : adds) {
    PLEAT_REQUIRE(pending <= kMaxPending, "an all-reduce's tree of at most ", kMaxPending, " levels");
    pending += 1 - count;
  }
  return order;
}

}  // namespace pleat::cuda
