#pragma once
// Whole pages of prompts that have been computed, kept so that a prompt which begins in the same way starts behind
// them. A radix tree (RadixAttention, arXiv 2312.07104) whose edges are the kPageTokens tokens of a page: a path from
// the root is a beginning of a prompt. It is exact: a page is found by all tokens up to its end, and keys and values of
// a prompt depend on these alone, to the bit, so a text is the same with and without. Pages that running sequences use
// are counted; others stay until their room is needed, and then those unused for longest go first, ends before
// beginnings.
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <vector>

#include "core/engine/page_pool.h"

namespace pleat {

class PrefixCache {
 private:
  struct Node;

 public:
  explicit PrefixCache(PagePool& pool);
  ~PrefixCache();

  // What a sequence uses of the tree.
  struct Held {
    std::vector<int32_t> pages;  // that its prompt begins with, as hold() found them

   private:
    friend class PrefixCache;
    std::vector<Node*> path;
  };

  // The longest known beginning of the tokens, in whole pages and without the last token, which has to be computed.
  Held hold(std::span<const int32_t> prompt);
  // Between steps: `pages` hold the prompt, all of it computed. Its whole pages leave `own`: the tree takes over those
  // that it does not know yet; where another sequence was first, that one's page, which holds the same bits, stands in
  // `pages` from now on, and the twin goes back to the pool. Until release() none of the tree's goes.
  void keep(std::span<const int32_t> prompt, std::vector<int32_t>& pages, Held& held, std::vector<int32_t>& own);
  // The sequence uses them no longer.
  void release(Held& held);
  // Gives unused pages back to the pool until it has `count`, or no unused ones are left.
  void make_room(int64_t count);

  int64_t unused() const { return unused_; }  // pages that make_room() could give back

 private:
  void use(Node& node);
  void unuse(Node& node);
  bool may_go(const Node& node) const;

  PagePool& pool_;
  std::unique_ptr<Node> root_;
  uint64_t clock_ = 0;                           // counts uses
  std::set<std::pair<uint64_t, Node*>> may_go_;  // unused ends, by the time of their last use
  int64_t unused_ = 0;
};

}  // namespace pleat
