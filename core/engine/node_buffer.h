#pragma once
// A rank's partial sums, [nodes][rows][d] as the exchanges want them, filled by blocks of nodes and rows (a step's
// dense and folded rows are computed apart and travel in one all-reduce).
#include <algorithm>
#include <cstdint>
#include <vector>

namespace pleat {

class NodeBuffer {
 public:
  NodeBuffer(size_t nodes, int64_t max_rows, int64_t width)
      : width_(width), values_(nodes * size_t(max_rows * width)), block_(nodes > 1 ? values_.size() : 0) {}

  void begin(int64_t rows) { rows_ = rows; }
  float* from(size_t node) { return values_.data() + int64_t(node) * rows_ * width_; }

  // Calls fill(out) with out [nodes][count][d]: rows [row, row + count) of the nodes from `first` on.
  template <class Fill>
  void fill(size_t first, size_t nodes, int64_t row, int64_t count, Fill&& fill_block) {
    if (nodes == 1 || count == rows_) return fill_block(from(first) + row * width_);
    fill_block(block_.data());
    for (size_t node = 0; node < nodes; ++node)
      std::copy_n(&block_[node * size_t(count * width_)], count * width_, from(first + node) + row * width_);
  }

 private:
  int64_t width_, rows_ = 0;
  std::vector<float> values_, block_;
};

}  // namespace pleat
