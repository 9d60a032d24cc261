#include "core/engine/prefix_cache.h"

#include "kernels/attention.h"
#include "kernels/check.h"

namespace pleat {

struct PrefixCache::Node {
  Node* parent = nullptr;
  std::vector<int32_t> tokens;  // of its page
  int32_t page = -1;
  int64_t users = 0;
  uint64_t last_use = 0;
  std::map<std::vector<int32_t>, std::unique_ptr<Node>> next;  // by their tokens
};

namespace {

std::vector<int32_t> page_tokens(std::span<const int32_t> prompt, int64_t page) {
  const auto tokens = prompt.subspan(size_t(page * kPageTokens), size_t(kPageTokens));
  return {tokens.begin(), tokens.end()};
}

}  // namespace

PrefixCache::PrefixCache(PagePool& pool) : pool_(pool), root_(std::make_unique<Node>()) {}
PrefixCache::~PrefixCache() = default;

PrefixCache::Held PrefixCache::hold(std::span<const int32_t> prompt) {
  Held held;
  Node* node = root_.get();
  const int64_t most = (int64_t(prompt.size()) - 1) / kPageTokens;
  for (int64_t page = 0; page < most; ++page) {
    const auto found = node->next.find(page_tokens(prompt, page));
    if (found == node->next.end()) break;
    node = found->second.get();
    use(*node);
    held.pages.push_back(node->page);
    held.path.push_back(node);
  }
  return held;
}

void PrefixCache::keep(std::span<const int32_t> prompt, std::vector<int32_t>& pages, Held& held,
                       std::vector<int32_t>& own) {
  Node* node = held.path.empty() ? root_.get() : held.path.back();
  const int64_t whole = int64_t(prompt.size()) / kPageTokens;
  for (int64_t page = int64_t(held.path.size()); page < whole; ++page) {
    std::unique_ptr<Node>& next = node->next[page_tokens(prompt, page)];
    int32_t& entry = pages[size_t(page)];
    std::erase(own, entry);
    if (!next) {
      next = std::make_unique<Node>();
      next->parent = node;
      next->tokens = page_tokens(prompt, page);
      next->page = entry;
      ++unused_;  // until its first use, which follows
    } else {
      std::vector<int32_t> twin = {entry};
      pool_.release(twin);
      entry = next->page;
    }
    node = next.get();
    use(*node);
    held.path.push_back(node);
  }
}

void PrefixCache::release(Held& held) {
  for (auto node = held.path.rbegin(); node != held.path.rend(); ++node) unuse(**node);
  held = {};
}

void PrefixCache::make_room(int64_t count) {
  while (pool_.available() < count && !may_go_.empty()) {
    Node* node = may_go_.begin()->second;
    may_go_.erase(may_go_.begin());
    std::vector<int32_t> page = {node->page};
    pool_.release(page);
    --unused_;
    Node* parent = node->parent;
    parent->next.erase(std::vector<int32_t>(node->tokens));
    if (may_go(*parent)) may_go_.insert({parent->last_use, parent});
  }
}

bool PrefixCache::may_go(const Node& node) const { return node.parent && node.users == 0 && node.next.empty(); }

void PrefixCache::use(Node& node) {
  if (node.users++ > 0) return;
  --unused_;
  may_go_.erase({node.last_use, &node});
}

void PrefixCache::unuse(Node& node) {
  PLEAT_ASSERT(node.users > 0, "page ", node.page, " is not in use");
  if (--node.users > 0) return;
  ++unused_;
  node.last_use = ++clock_;
  if (may_go(node)) may_go_.insert({node.last_use, &node});
}

}  // namespace pleat
