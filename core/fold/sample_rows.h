#pragma once
// Some rows of a sample.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/fold/products.h"

namespace pleat {

// At most `most` of `rows`, spread evenly.
inline std::vector<int64_t> spread_rows(int64_t rows, int64_t most) {
  std::vector<int64_t> out(size_t(std::min(rows, most)));
  for (size_t i = 0; i < out.size(); ++i) out[i] = int64_t(i) * rows / int64_t(out.size());
  return out;
}

// The same by whole blocks of `length` rows; all rows where they are fewer than a block.
inline std::vector<int64_t> spread_blocks(int64_t rows, int64_t most, int64_t length) {
  if (rows < length || rows <= most) return spread_rows(rows, rows);
  std::vector<int64_t> out;
  for (const int64_t block : spread_rows(rows / length, std::max<int64_t>(1, most / length)))
    for (int64_t i = 0; i < length; ++i) out.push_back(block * length + i);
  return out;
}

inline Table rows_of(const Table& sample, const std::vector<int64_t>& rows) {
  Table out(int64_t(rows.size()), sample.cols);
  for (size_t i = 0; i < rows.size(); ++i) std::copy_n(sample[rows[i]], sample.cols, out[int64_t(i)]);
  return out;
}

}  // namespace pleat
