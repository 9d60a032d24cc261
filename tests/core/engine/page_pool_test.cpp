#include "core/engine/page_pool.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "kernels/check.h"

namespace pleat {
namespace {

TEST(PagePool, NeverLendsAPageTwiceAndGetsAllBack) {
  std::mt19937 random(1);
  PagePool pool(50);
  std::vector<std::vector<int32_t>> owners(10);
  for (int round = 0; round < 2000; ++round) {
    std::vector<int32_t>& pages = owners[random() % owners.size()];
    if (random() % 2) {
      pool.release(pages);
      EXPECT_TRUE(pages.empty());
    } else {
      const int64_t count = int64_t(random() % 7), before = pool.available(), had = int64_t(pages.size());
      const bool reserved = pool.reserve(count, pages);
      EXPECT_EQ(reserved, count <= before);
      EXPECT_EQ(int64_t(pages.size()), reserved ? had + count : had);
    }
    std::set<int32_t> lent;
    size_t total = 0;
    for (const auto& owner : owners) {
      lent.insert(owner.begin(), owner.end());
      total += owner.size();
    }
    ASSERT_EQ(lent.size(), total);
    ASSERT_EQ(int64_t(total) + pool.available(), pool.pages());
    ASSERT_TRUE(lent.empty() || (*lent.begin() >= 0 && *lent.rbegin() < 50));
  }
  for (auto& owner : owners) pool.release(owner);
  EXPECT_EQ(pool.available(), 50);
}

TEST(PagePool, RefusesAPageThatIsNobodys) {
  PagePool pool(4);
  std::vector<int32_t> pages;
  ASSERT_TRUE(pool.reserve(2, pages));
  std::vector<int32_t> copy = pages;
  pool.release(pages);
  EXPECT_THROW(pool.release(copy), Error);
  std::vector<int32_t> strange = {4};
  EXPECT_THROW(pool.release(strange), Error);
}

}  // namespace
}  // namespace pleat
