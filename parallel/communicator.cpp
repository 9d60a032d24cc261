#include "parallel/communicator.h"

#include <algorithm>

#include "kernels/check.h"

namespace pleat {

TreeExchange::TreeExchange(int leaves_, int ranks) : leaves(leaves_), finish{{leaves_, {}}} {
  for (int rank = 0; rank < ranks; ++rank) {
    nodes.push_back(cover(leaves, first_leaf(leaves, ranks, rank), first_leaf(leaves, ranks, rank + 1)));
    finish[0].nodes.insert(finish[0].nodes.end(), nodes.back().begin(), nodes.back().end());
  }
  count();
}

TreeExchange TreeExchange::one_sum_a_rank(int leaves, int ranks) {
  TreeExchange exchange;
  exchange.leaves = leaves;
  exchange.nodes.resize(ranks);
  exchange.finish.resize(1);
  for (int rank = 0; rank < ranks; ++rank) {
    const TreeNode all{first_leaf(leaves, ranks, rank), first_leaf(leaves, ranks, rank + 1)};
    if (all.leaves() == 0) continue;
    exchange.nodes[rank] = {all};
    FinishTree& finish = exchange.finish[0];
    finish.nodes.push_back({finish.leaves, finish.leaves + 1});
    ++finish.leaves;
  }
  exchange.count();
  return exchange;
}

TreeExchange TreeExchange::joint(const TreeExchange& first, const TreeExchange& second) {
  TreeExchange exchange;
  exchange.nodes = first.nodes;
  exchange.finish = {first.finish[0], second.finish[0]};
  int next_first = 0, next_second = int(first.finish[0].nodes.size());
  for (size_t rank = 0; rank < second.nodes.size(); ++rank) {
    std::vector<TreeNode>& nodes = exchange.nodes[rank];
    for (size_t i = 0; i < nodes.size(); ++i) exchange.place.push_back(next_first++);
    for (size_t i = 0; i < second.nodes[rank].size(); ++i) exchange.place.push_back(next_second++);
    nodes.insert(nodes.end(), second.nodes[rank].begin(), second.nodes[rank].end());
    exchange.most_nodes = std::max(exchange.most_nodes, int(nodes.size()));
  }
  return exchange;
}

void TreeExchange::count() {
  for (const auto& of_rank : nodes) most_nodes = std::max(most_nodes, int(of_rank.size()));
  for (size_t i = 0; i < finish[0].nodes.size(); ++i) place.push_back(int(i));
}

void Communicator::at(int64_t step, int layer) {
  ledger_->step.store(step, std::memory_order_relaxed);
  ledger_->layer.store(layer, std::memory_order_relaxed);
}

// A collective that throws stays entered: the ledger then still says where the rank was lost.
template <class Collective>
void Communicator::account(const char* name, int64_t bytes, Collective&& collective) {
  ledger_->enter(name, bytes);
  const int64_t start = ledger_->entered_ns.load(std::memory_order_relaxed);
  collective();
  ledger_->leave();
  seconds_ += double(steady_ns() - start) * 1e-9;
  bytes_sent_ += bytes;
}

void Communicator::tree_all_reduce(const char* name, const TreeExchange& exchange, const float* mine, int64_t n,
                                   float* out) {
  PLEAT_ASSERT(int(exchange.nodes.size()) == ranks_, "the exchange is for ", exchange.nodes.size(), " ranks");
  account(name, int64_t(exchange.nodes[rank_].size() * sizeof(float)) * n,
          [&] { do_tree_all_reduce(exchange, mine, n, out); });
}

void Communicator::all_gather(const char* name, std::span<const std::byte> mine, std::span<const int64_t> counts,
                              std::byte* all) {
  PLEAT_ASSERT(int(counts.size()) == ranks_ && int64_t(mine.size()) == counts[rank_]);
  account(name, int64_t(mine.size()), [&] { do_all_gather(mine, counts, all); });
}

void Communicator::gather(const char* name, std::span<const std::byte> mine, std::span<const int64_t> counts,
                          std::byte* all) {
  PLEAT_ASSERT(int(counts.size()) == ranks_ && int64_t(mine.size()) == counts[rank_]);
  account(name, int64_t(mine.size()), [&] { do_gather(mine, counts, all); });
}

void Communicator::broadcast(const char* name, std::span<std::byte> bytes) {
  account(name, rank_ == 0 ? int64_t(bytes.size()) : 0, [&] { do_broadcast(bytes); });
}

void Communicator::barrier(const char* name) {
  account(name, 0, [&] { do_barrier(); });
}

void Communicator::barrier_after(const char* name, std::chrono::nanoseconds longer) {
  deadline_.other_hosts_ns = longer.count();
  barrier(name);
  deadline_.other_hosts_ns = 0;
}

int64_t Communicator::agree_min(const char* name, int64_t value) {
  std::vector<int64_t> values(ranks_), counts(ranks_, sizeof value);
  all_gather(name, std::as_bytes(std::span(&value, 1)), counts, reinterpret_cast<std::byte*>(values.data()));
  return *std::min_element(values.begin(), values.end());
}

}  // namespace pleat
