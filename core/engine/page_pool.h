#pragma once
// The free pages of the key-value cache. A page belongs to one sequence or to the pool.
#include <cstdint>
#include <vector>

namespace pleat {

class PagePool {
 public:
  explicit PagePool(int64_t pages);

  int64_t pages() const { return int64_t(owned_.size()); }
  int64_t available() const { return int64_t(free_.size()); }

  // Adds `count` pages to `pages`, or none at all if fewer are free: false.
  bool reserve(int64_t count, std::vector<int32_t>& pages);
  // Gives back all of `pages` and empties it.
  void release(std::vector<int32_t>& pages);

 private:
  std::vector<int32_t> free_;  // the last one goes next
  std::vector<bool> owned_;    // [pages] by a sequence
};

}  // namespace pleat
