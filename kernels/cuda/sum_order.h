#pragma once
// In which order a kernel adds what the ranks give: left to right, or by the fixed trees of kernels/reduce_tree.h.
#include <cstdint>
#include <vector>

#include "kernels/reduce_tree.h"

namespace pleat::cuda {

constexpr int kMaxRanks = 32;
constexpr int kMaxTerms = 128;
constexpr int kMaxPending = 8;  // sums that wait for their right-hand side

// Any trees over terms in a fixed order, as a stack machine's program: each term is put on the stack, then the two
// topmost entries are added, left + right, `adds` times.
struct SumOrder {
  struct Term {
    uint8_t rank = 0;  // who gives it
    uint8_t node = 0;  // which of that rank's nodes
    uint8_t adds = 0;
  };
  int terms = 0;
  Term term[kMaxTerms];
  int ranks = 0;
  int nodes[kMaxRanks] = {};  // [ranks] how many each rank gives
  int most_nodes = 1;         // of any rank, at least 1

  // One sum a rank: ((rank 0 + rank 1) + rank 2) + ...
  static SumOrder by_rank(int ranks);
  // What finish_trees(finish, ...) adds, bit for bit. The arguments are the fields of a TreeExchange: nodes [ranks],
  // place: of the ranks' nodes, in rank order, which of the values of `finish` they are.
  // Throws Error(invalid) for more than kMaxRanks ranks, kMaxTerms nodes or kMaxPending pending sums.
  static SumOrder by_trees(const std::vector<std::vector<TreeNode>>& nodes, const std::vector<FinishTree>& finish,
                           const std::vector<int>& place);
};

}  // namespace pleat::cuda
