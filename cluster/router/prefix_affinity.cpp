#include "cluster/router/prefix_affinity.h"

namespace pleat {

std::vector<uint64_t> PrefixAffinity::beginnings(std::string_view prompt) {
  std::vector<uint64_t> all;
  uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  for (size_t i = 0; i < prompt.size(); ++i) {
    hash = (hash ^ static_cast<unsigned char>(prompt[i])) * 0x100000001b3;
    if ((i + 1) % kBlock == 0) all.push_back(hash);
  }
  return all;
}

std::optional<int> PrefixAffinity::find(const std::vector<uint64_t>& beginnings) const {
  for (auto beginning = beginnings.rbegin(); beginning != beginnings.rend(); ++beginning)
    if (const auto found = replicas_.find(*beginning); found != replicas_.end()) return found->second;
  return std::nullopt;
}

void PrefixAffinity::remember(const std::vector<uint64_t>& beginnings, int replica) {
  for (const uint64_t beginning : beginnings) {
    if (replicas_.insert_or_assign(beginning, replica).second) age_.push_back(beginning);
    if (age_.size() <= kEntries) continue;
    replicas_.erase(age_.front());
    age_.pop_front();
  }
}

}  // namespace pleat
