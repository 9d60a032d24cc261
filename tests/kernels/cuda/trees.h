#pragma once
#include <vector>

#include "../vectors.h"
#include "kernels/reduce_tree.h"

namespace pleat::cuda {

// One or two trees over leaves of random values, cut for a number of ranks as TreeExchange does.
struct Trees {
  std::vector<std::vector<TreeNode>> nodes;  // [ranks]
  std::vector<FinishTree> finish;
  std::vector<int> place;
  std::vector<std::vector<float>> values;  // of `finish`, [n] each

  Trees(const std::vector<int>& leaves, int ranks, size_t n) : nodes(size_t(ranks)) {
    std::vector<std::vector<int>> places(nodes.size());
    for (const int count : leaves) {
      finish.push_back({count, {}});
      for (int rank = 0; rank < ranks; ++rank)
        for (const TreeNode& node : cover(count, first_leaf(count, ranks, rank), first_leaf(count, ranks, rank + 1))) {
          places[size_t(rank)].push_back(int(values.size()));
          nodes[size_t(rank)].push_back(node);
          finish.back().nodes.push_back(node);
          values.push_back(sum(node, int(finish.size()), n));
        }
    }
    for (const std::vector<int>& of_rank : places) place.insert(place.end(), of_rank.begin(), of_rank.end());
  }

  std::vector<float> of_rank(int rank) const {
    const int* at = place.data();
    for (int before = 0; before < rank; ++before) at += nodes[size_t(before)].size();
    std::vector<float> all;
    for (size_t node = 0; node < nodes[size_t(rank)].size(); ++node) {
      const std::vector<float>& sums = values[size_t(at[node])];
      all.insert(all.end(), sums.begin(), sums.end());
    }
    return all;
  }

  std::vector<float> on_cpu(size_t n) const {
    std::vector<const float*> pointers;
    for (const std::vector<float>& sums : values) pointers.push_back(sums.data());
    std::vector<float> out(n);
    finish_trees(finish, pointers, int64_t(n), out.data());
    return out;
  }

 private:
  static std::vector<float> sum(TreeNode node, int tree, size_t n) {
    if (node.leaves() == 1) return random_floats(n, uint32_t(100 * tree + node.begin));
    std::vector<float> left = sum({node.begin, node.middle()}, tree, n);
    const std::vector<float> right = sum({node.middle(), node.end}, tree, n);
    for (size_t i = 0; i < n; ++i) left[i] += right[i];
    return left;
  }
};

}  // namespace pleat::cuda
