#include "core/checkpoint/slice.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace pleat {
namespace {

constexpr uint64_t kStripBytes = uint64_t(1) << 20;
constexpr uint64_t kSmallGap = 64;  // a cache line: a system call costs more than copying it

// Reads several rows with their gaps at once and copies the pieces out.
uint64_t read_strips(const File& file, const Slice& slice, std::byte* out) {
  const uint64_t strip_rows = std::min(kStripBytes / slice.row_bytes, slice.rows);
  std::vector<std::byte> strip((strip_rows - 1) * slice.row_bytes + slice.width);
  uint64_t total = 0;
  for (uint64_t row = 0; row < slice.rows; row += strip_rows) {
    const uint64_t count = std::min(strip_rows, slice.rows - row);
    const uint64_t bytes = (count - 1) * slice.row_bytes + slice.width;
    file.read(slice.offset + row * slice.row_bytes, bytes, strip.data());
    total += bytes;
    for (uint64_t i = 0; i < count; ++i) {
      std::memcpy(out + (row + i) * slice.width, strip.data() + i * slice.row_bytes, slice.width);
    }
  }
  return total;
}

}  // namespace

uint64_t read_slice(const File& file, const Slice& slice, std::byte* out) {
  const uint64_t bytes = slice.rows * slice.width;
  if (bytes == 0) return 0;
  const uint64_t gap = slice.row_bytes - slice.width;
  if (gap == 0 || slice.rows == 1) {
    file.read(slice.offset, bytes, out);
    return bytes;
  }
  const bool cheap_gap = gap <= std::max(slice.width / 10, kSmallGap);
  if (cheap_gap && slice.row_bytes <= kStripBytes / 2) return read_strips(file, slice, out);
  for (uint64_t row = 0; row < slice.rows; ++row) {
    file.read(slice.offset + row * slice.row_bytes, slice.width, out + row * slice.width);
  }
  return bytes;
}

}  // namespace pleat
