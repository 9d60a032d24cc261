#include "core/engine/page_pool.h"

#include "kernels/check.h"

namespace pleat {

PagePool::PagePool(int64_t pages) : owned_(size_t(pages), false) {
  PLEAT_ASSERT(pages >= 0 && pages <= INT32_MAX, pages, " pages");
  free_.reserve(size_t(pages));
  for (int64_t page = pages - 1; page >= 0; --page) free_.push_back(int32_t(page));
}

bool PagePool::reserve(int64_t count, std::vector<int32_t>& pages) {
  PLEAT_ASSERT(count >= 0, count, " pages");
  if (count > available()) return false;
  for (; count > 0; --count) {
    const int32_t page = free_.back();
    PLEAT_ASSERT(!owned_[size_t(page)], "page ", page, " has two owners");
    owned_[size_t(page)] = true;
    pages.push_back(page);
    free_.pop_back();
  }
  return true;
}

void PagePool::release(std::vector<int32_t>& pages) {
  for (const int32_t page : pages) {
    PLEAT_ASSERT(page >= 0 && size_t(page) < owned_.size() && owned_[size_t(page)], "page ", page, " is nobody's");
    owned_[size_t(page)] = false;
    free_.push_back(page);
  }
  pages.clear();
}

}  // namespace pleat
