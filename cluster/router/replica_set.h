#pragma once
// The replicas of a router, and which of them a request goes to.
#include <set>
#include <span>

#include "cluster/router/prefix_affinity.h"
#include "cluster/router/replica.h"

namespace pleat {

// One that may take a request.
struct Candidate {
  int number = 0;
  int64_t load = 0;  // tokens
};

// So many tokens more may wait at a replica that has a prompt's beginning before another one is the better choice.
constexpr int64_t kAffinitySlack = 1024;

// The index of the one with the least load, or of the preferred one (a number) while that is not much busier.
size_t choose(std::span<const Candidate> candidates, std::optional<int> preferred);

class ReplicaSet {
 public:
  ReplicaSet(kj::Timer& timer, Connect connect, const RouterOptions& options)
      : timer_(timer), connect_(std::move(connect)), options_(options) {}
  KJ_DISALLOW_COPY(ReplicaSet);

  // The replicas from now on. Those that are no more among them get no new requests; what they have they finish.
  void set(const std::vector<std::string>& addresses);

  // For a prompt that begins so; null where there is none. Not one of `except`, by number. With an identity: only one
  // that has it.
  std::shared_ptr<Replica> choose(const std::vector<uint64_t>& beginnings, const std::set<int>& except,
                                  const std::string& identity);

  const std::vector<std::shared_ptr<Replica>>& all() const { return replicas_; }
  bool any_usable() const;
  // How many texts with this max_tokens, behind prompts of at least so many tokens, all their queues could hold while
  // nothing else is there; those that are away count too. None where one has never said what it takes.
  std::optional<int64_t> room(int64_t max_tokens, int64_t prompt_tokens) const;
  // What they serve, by one that is connected; null where none is.
  const ReplicaFacts* facts() const;

 private:
  kj::Maybe<std::string> objection(const Replica& replica) const;

  kj::Timer& timer_;
  const Connect connect_;
  const RouterOptions options_;
  int next_number_ = 0;
  PrefixAffinity affinity_;
  std::vector<std::shared_ptr<Replica>> replicas_;
};

}  // namespace pleat
