#include "core/engine/prefix_cache.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "kernels/attention.h"

namespace pleat::test {
namespace {

std::vector<int32_t> prompt_of(int64_t pages, int32_t first = 0) {
  std::vector<int32_t> prompt(size_t(pages * kPageTokens + 1));
  std::iota(prompt.begin(), prompt.end(), first);
  return prompt;
}

// A sequence as the batcher has it: held, reserved, computed, kept, released.
struct Sequence {
  PrefixCache::Held held;
  std::vector<int32_t> own, pages;

  void start(PrefixCache& cache, PagePool& pool, const std::vector<int32_t>& prompt) {
    held = cache.hold(prompt);
    pages = held.pages;
    const int64_t missing = int64_t(prompt.size() - 1) / kPageTokens + 1 - int64_t(pages.size());
    cache.make_room(missing);
    ASSERT_TRUE(pool.reserve(missing, own));
    pages.insert(pages.end(), own.begin(), own.end());
  }
  void end(PrefixCache& cache, PagePool& pool) {
    cache.release(held);
    pool.release(own);
  }
};

TEST(PrefixCache, FindsTheLongestBeginningInWholePagesButNeverTheLastToken) {
  PagePool pool(8);
  PrefixCache cache(pool);
  Sequence first;
  const std::vector<int32_t> prompt = prompt_of(3);
  first.start(cache, pool, prompt);
  EXPECT_TRUE(first.held.pages.empty());
  cache.keep(prompt, first.pages, first.held, first.own);
  EXPECT_EQ(first.own.size(), 1u) << "the page that is not full";
  EXPECT_EQ(cache.unused(), 0);

  const auto found = [&](std::vector<int32_t> other) {
    PrefixCache::Held held = cache.hold(other);
    const std::vector<int32_t> pages = held.pages;
    cache.release(held);
    return pages;
  };
  const auto begin = first.pages.begin();
  EXPECT_EQ(found(prompt), std::vector<int32_t>(begin, begin + 3));
  EXPECT_EQ(found({prompt.begin(), prompt.end() - 1}), std::vector<int32_t>(begin, begin + 2));
  std::vector<int32_t> other = prompt;
  other[size_t(kPageTokens)] = 999;
  EXPECT_EQ(found(other), std::vector<int32_t>(begin, begin + 1));
  other[0] = 999;
  EXPECT_TRUE(found(other).empty());
  first.end(cache, pool);
  EXPECT_EQ(cache.unused(), 3);
  EXPECT_EQ(found(prompt).size(), 3u) << "they stay";
}

TEST(PrefixCache, GivesBackUnusedPagesEndsFirstAndTheLongestUnusedFirst) {
  PagePool pool(7);
  PrefixCache cache(pool);
  for (const int32_t first : {0, 1000}) {
    Sequence sequence;
    const auto prompt = prompt_of(2, first);
    sequence.start(cache, pool, prompt);
    cache.keep(prompt, sequence.pages, sequence.held, sequence.own);
    sequence.end(cache, pool);
  }
  EXPECT_EQ(pool.available(), 3);
  const auto known = [&](int32_t first) {
    auto held = cache.hold(prompt_of(2, first));
    const size_t pages = held.pages.size();
    cache.release(held);
    return pages;
  };
  cache.make_room(4);
  EXPECT_EQ(known(0), 1u) << "its end went, its beginning stays";
  EXPECT_EQ(known(1000), 2u);
  Sequence user;
  user.start(cache, pool, prompt_of(2, 0));
  cache.make_room(7);
  EXPECT_EQ(pool.available(), 4) << "pages in use stay";
  EXPECT_EQ(known(0), 1u);
  EXPECT_EQ(known(1000), 0u);
  user.end(cache, pool);
  cache.make_room(7);
  EXPECT_EQ(pool.available(), 7);
  EXPECT_EQ(cache.unused(), 0);
}

TEST(PrefixCache, OfTwoThatComputeTheSameTheSecondTakesTheFirstOnesPages) {
  PagePool pool(6);
  PrefixCache cache(pool);
  Sequence a, b;
  const auto prompt = prompt_of(2);
  a.start(cache, pool, prompt);
  b.start(cache, pool, prompt);
  cache.keep(prompt, a.pages, a.held, a.own);
  cache.keep(prompt, b.pages, b.held, b.own);
  EXPECT_EQ(b.own, std::vector<int32_t>{b.pages[2]}) << "the page that is not full";
  EXPECT_EQ(std::vector<int32_t>(b.pages.begin(), b.pages.begin() + 2),
            std::vector<int32_t>(a.pages.begin(), a.pages.begin() + 2));
  EXPECT_NE(b.pages[2], a.pages[2]);
  EXPECT_EQ(pool.available(), 2) << "the twins";
  cache.keep(prompt, b.pages, b.held, b.own);
  EXPECT_EQ(pool.available(), 2) << "nothing is left to do";
  a.end(cache, pool);
  EXPECT_EQ(cache.unused(), 0) << "b still holds the tree's pages";
  b.end(cache, pool);
  EXPECT_EQ(cache.unused(), 2);
  cache.make_room(6);
  EXPECT_EQ(pool.available(), 6);
}

TEST(PrefixCache, EveryPageIsInOnePlaceThroughoutARandomHistory) {
  for (unsigned seed = 0; seed < 100; ++seed) {
    std::mt19937 random(seed);
    PagePool pool(24);
    PrefixCache cache(pool);
    std::vector<std::pair<std::vector<int32_t>, Sequence>> running;
    for (int event = 0; event < 200; ++event) {
      if (running.size() < 4 && random() % 2) {
        auto& [prompt, sequence] = running.emplace_back();
        prompt = prompt_of(int64_t(1 + random() % 5));
        if (random() % 2) prompt[random() % prompt.size()] += 1;
        sequence.start(cache, pool, prompt);
        if (random() % 4 > 0) cache.keep(prompt, sequence.pages, sequence.held, sequence.own);
      } else if (!running.empty()) {
        const size_t which = random() % running.size();
        running[which].second.end(cache, pool);
        running.erase(running.begin() + int64_t(which));
      }
      int64_t own = 0;
      for (const auto& [prompt, sequence] : running) own += int64_t(sequence.own.size());
      const int64_t in_tree = pool.pages() - pool.available() - own;
      ASSERT_TRUE(running.empty() ? in_tree == cache.unused() : in_tree >= cache.unused()) << "seed " << seed;
    }
    for (auto& [prompt, sequence] : running) sequence.end(cache, pool);
    cache.make_room(24);
    ASSERT_EQ(pool.available(), 24) << "seed " << seed;
  }
}

}  // namespace
}  // namespace pleat::test
