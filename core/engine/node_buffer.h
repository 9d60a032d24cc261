#pragma once
// A layer's partial sums on one rank, [nodes][rows][d] as the exchange wants them, filled by blocks of rows (a step's
// dense and folded rows are computed apart and travel in one all-reduce).
#include <algorithm>
#include <cstdint>
#include <vector>

namespace pleat {

class NodeBuffer {
 public:
  NodeBuffer(size_t nodes, int64_t max_rows, int64_t width)
      : nodes_(int64_t(nodes)),
        width_(width),
        values_(nodes * size_t(max_rows * width)),
        block_(nodes > 1 ? values_.size() : 0) {}

  void begin(int64_t rows) { rows_ = rows; }
  const float* values() const { return values_.data(); }

  // Calls fill(out) with out [nodes][count][d], the part of rows [row, row + count).
  template <class Fill>
  void fill(int64_t row, int64_t count, Fill&& fill_block) {
    if (nodes_ == 1 || count == rows_) return fill_block(values_.data() + row * width_);
    fill_block(block_.data());
    for (int64_t node = 0; node < nodes_; ++node)
      std::copy_n(&block_[size_t(node * count * width_)], count * width_,
                  &values_[size_t((node * rows_ + row) * width_)]);
  }

 private:
  int64_t nodes_, width_, rows_ = 0;
  std::vector<float> values_, block_;
};

}  // namespace pleat
