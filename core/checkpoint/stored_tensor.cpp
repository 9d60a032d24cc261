#include "core/checkpoint/stored_tensor.h"

#include <cstring>
#include <vector>

#include "core/checkpoint/file.h"
#include "core/checkpoint/slice.h"
#include "kernels/check.h"

namespace pleat {
namespace {

constexpr uint64_t kStagingBytes = 1 << 20;

// A vector whose elements stand in another order.
uint64_t read_reordered_vector(const File& file, const StoredTensor& tensor, int64_t begin, int64_t end,
                               std::byte* out) {
  PLEAT_REQUIRE(!tensor.blocks, file.path(), ": a vector whose elements are reordered is quantised");
  std::vector<std::byte> all(tensor.bytes);
  file.read(tensor.offset, all.size(), all.data());
  const size_t size = size_of(tensor.info.dtype);
  for (int64_t i = begin; i < end; ++i, out += size) std::memcpy(out, &all[size_t(tensor.stored_row(i)) * size], size);
  return all.size();
}

}  // namespace

uint64_t read_translated(const File& file, const StoredTensor& tensor, int64_t cols, int64_t row_begin, int64_t row_end,
                         int64_t col_begin, int64_t col_end, std::byte* out) {
  if (tensor.info.shape.size() == 1 && tensor.stored_row)
    return read_reordered_vector(file, tensor, col_begin, col_end, out);
  const int64_t size = int64_t(size_of(tensor.info.dtype));
  const int64_t values = tensor.blocks ? tensor.blocks->values : 1, bytes = tensor.blocks ? tensor.blocks->bytes : size;
  const int64_t first = col_begin / values, blocks = (col_end + values - 1) / values - first;
  const int64_t row_bytes = cols / values * bytes;
  const auto place = [&](int64_t row) { return tensor.stored_row ? tensor.stored_row(row) : row; };
  std::vector<std::byte> staging;
  std::vector<float> block(static_cast<size_t>(values));
  uint64_t read = 0;
  for (int64_t row = row_begin; row < row_end && blocks > 0;) {
    int64_t count = 1;  // rows that stand side by side
    while (row + count < row_end && place(row + count) == place(row) + count &&
           uint64_t(count * blocks * bytes) < kStagingBytes)
      ++count;
    staging.resize(size_t(count * blocks * bytes));
    const Slice slice{.offset = tensor.offset + uint64_t(place(row) * row_bytes + first * bytes),
                      .rows = uint64_t(count),
                      .row_bytes = uint64_t(row_bytes),
                      .width = uint64_t(blocks * bytes)};
    read += read_slice(file, slice, staging.data());
    for (int64_t i = 0; i < count; ++i) {
      const std::byte* from = staging.data() + i * blocks * bytes;
      if (!tensor.blocks) {
        std::memcpy(out, from, size_t((col_end - col_begin) * size));
      } else {
        for (int64_t b = 0; b < blocks; ++b, from += bytes) {
          tensor.blocks->unpack(reinterpret_cast<const uint8_t*>(from), block.data());
          const int64_t block_begin = (first + b) * values;
          const int64_t begin = std::max(col_begin, block_begin), end = std::min(col_end, block_begin + values);
          std::memcpy(out + (begin - col_begin) * size, &block[size_t(begin - block_begin)],
                      size_t((end - begin) * size));
        }
      }
      for (int64_t col = 0; tensor.shift != 0 && col < col_end - col_begin; ++col) {
        float value;
        std::memcpy(&value, out + col * size, sizeof(value));
        value += tensor.shift;
        std::memcpy(out + col * size, &value, sizeof(value));
      }
      out += (col_end - col_begin) * size;
    }
    row += count;
  }
  return read;
}

}  // namespace pleat
