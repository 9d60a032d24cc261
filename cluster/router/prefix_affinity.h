#pragma once
// Which replica has lately computed the beginning of a prompt, and so may still hold it in its cache. A guess that
// costs nothing when it is wrong.
#include <cstdint>
#include <deque>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace pleat {

class PrefixAffinity {
 public:
  static constexpr size_t kBlock = 128;      // bytes; beginnings are known in whole blocks
  static constexpr size_t kEntries = 65536;  // beginnings that are remembered, the newest

  // Of a prompt's beginnings, shortest first.
  static std::vector<uint64_t> beginnings(std::string_view prompt);

  // The replica that last had the longest beginning that is known.
  std::optional<int> find(const std::vector<uint64_t>& beginnings) const;
  void remember(const std::vector<uint64_t>& beginnings, int replica);

 private:
  std::unordered_map<uint64_t, int> replicas_;
  std::deque<uint64_t> age_;  // oldest first
};

}  // namespace pleat
