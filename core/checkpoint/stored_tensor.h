#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "core/checkpoint/block_formats.h"
#include "core/checkpoint/checkpoint.h"

namespace pleat {

class File;

// Where a file has a tensor, and what makes it the tensor that readers see.
struct StoredTensor {
  TensorInfo info;
  std::string unreadable;  // the dtype's name where Pleat does not read it (BOOL masks); else empty
  uint64_t offset = 0;     // in the file
  uint64_t bytes = 0;
  // Of GGUF files only:
  const BlockFormat* blocks = nullptr;         // rows are made of these; readers see F32
  std::function<int64_t(int64_t)> stored_row;  // row, or element of a vector -> where the file has it; empty: the same
  float shift = 0;                             // added to every value (F32)

  bool as_it_is() const { return !blocks && !stored_row && shift == 0; }
};

// Rows [row_begin, row_end) and columns [col_begin, col_end) of a tensor that is not as_it_is(), `cols` columns wide,
// without gaps. A vector is one row. Returns the bytes read.
uint64_t read_translated(const File& file, const StoredTensor& tensor, int64_t cols, int64_t row_begin, int64_t row_end,
                         int64_t col_begin, int64_t col_end, std::byte* out);

}  // namespace pleat
