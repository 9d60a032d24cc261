#include "cluster/router/replica_set.h"

#include <algorithm>

#include "cluster/address.h"
#include "kernels/check.h"

namespace pleat {

size_t choose(std::span<const Candidate> candidates, std::optional<int> preferred) {
  const auto least = std::min_element(candidates.begin(), candidates.end(),
                                      [](const Candidate& a, const Candidate& b) { return a.load < b.load; });
  const auto known = std::find_if(candidates.begin(), candidates.end(),
                                  [&](const Candidate& candidate) { return candidate.number == preferred; });
  const bool near = known != candidates.end() && known->load <= least->load + kAffinitySlack;
  return size_t((near ? known : least) - candidates.begin());
}

void ReplicaSet::set(const std::vector<std::string>& addresses) {
  std::vector<std::shared_ptr<Replica>> replicas;
  for (const std::string& address : addresses) {
    check_address(address);
    const auto is_it = [&](const auto& replica) { return replica->address() == address; };
    if (std::any_of(replicas.begin(), replicas.end(), is_it)) continue;
    const auto known = std::find_if(replicas_.begin(), replicas_.end(), is_it);
    replicas.push_back(known != replicas_.end()
                           ? *known
                           : std::make_shared<Replica>(
                                 timer_, connect_, options_, [this](const Replica& other) { return objection(other); },
                                 address, next_number_++));
  }
  replicas_ = std::move(replicas);
}

std::shared_ptr<Replica> ReplicaSet::choose(const std::vector<uint64_t>& beginnings, const std::set<int>& except,
                                            const std::string& identity) {
  std::vector<Candidate> candidates;
  std::vector<std::shared_ptr<Replica>> usable;
  for (const auto& replica : replicas_) {
    if (!replica->usable() || except.contains(replica->number())) continue;
    if (!identity.empty() && replica->facts().identity != identity) continue;
    candidates.push_back({replica->number(), replica->load()});
    usable.push_back(replica);
  }
  if (usable.empty()) return nullptr;
  const auto& chosen = usable[pleat::choose(candidates, affinity_.find(beginnings))];
  affinity_.remember(beginnings, chosen->number());
  return chosen;
}

bool ReplicaSet::any_usable() const {
  return std::any_of(replicas_.begin(), replicas_.end(), [](const auto& replica) { return replica->usable(); });
}

std::optional<int64_t> ReplicaSet::room(int64_t max_tokens, int64_t prompt_tokens) const {
  if (replicas_.empty()) return std::nullopt;
  int64_t texts = 0;
  for (const auto& replica : replicas_) {
    const ReplicaFacts& facts = replica->facts();
    if (!facts.info.get() || facts.info->getLimits().getRequests() == 0) return std::nullopt;
    const auto limits = facts.info->getLimits();
    const int64_t each = std::max<int64_t>(1, prompt_tokens + std::min(max_tokens, facts.max_positions));
    const int64_t ours =
        limits.getRequestsPerConnection() > 0 ? limits.getRequestsPerConnection() : limits.getRequests();
    // One text is taken whatever its size.
    texts += std::max<int64_t>(1, std::min<int64_t>({limits.getRequests(), ours, int64_t(limits.getTokens()) / each}));
  }
  return texts;
}

const ReplicaFacts* ReplicaSet::facts() const {
  for (const auto& replica : replicas_)
    if (replica->connected()) return &replica->facts();
  return nullptr;
}

// A text can move between replicas, so all have to be of one kind. Who is there first says which.
kj::Maybe<std::string> ReplicaSet::objection(const Replica& replica) const {
  if (replica.facts().identity.empty()) return std::string("it is too old to go on with another one's text");
  for (const auto& other : replicas_) {
    if (!other->connected() || other->facts().identity == replica.facts().identity) continue;
    return concat("it serves '", replica.facts().model, "' (", replica.facts().identity, "), but ", other->address(),
                  " serves '", other->facts().model, "' (", other->facts().identity,
                  "): replicas have one model, fold and way to run it");
  }
  return nullptr;
}

}  // namespace pleat
