#pragma once
#include <cstddef>
#include <cstdint>

#include "core/checkpoint/file.h"

namespace pleat {

// `rows` pieces of `width` bytes, the first at `offset` of the file, each `row_bytes` after the one before.
struct Slice {
  uint64_t offset = 0;
  uint64_t rows = 0;
  uint64_t row_bytes = 0;
  uint64_t width = 0;
};

// Puts the pieces side by side into out and returns how many bytes were read to get them: exactly the slice where the
// gaps are wide, at most about a tenth more where they are so narrow that reading over them is cheaper.
uint64_t read_slice(const File& file, const Slice& slice, std::byte* out);

}  // namespace pleat
