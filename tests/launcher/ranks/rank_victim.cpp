// A rank for ranks_test.cpp: adds numbers with its peers, and misbehaves when told to.
//   rank_victim MODE TIMEOUT_MS
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "kernels/check.h"
#include "launcher/bootstrap.h"
#include "launcher/guardian.h"
#include "launcher/preflight.h"
#include "launcher/rank_process.h"

namespace {

using namespace pleat;
using namespace std::chrono_literals;

constexpr int kLeaves = 25;

float leaf_value(int leaf, int64_t column) {
  return float(
      std::ldexp(std::sin(double(leaf) * 12.9898 + double(column) * 78.233), int((leaf * 7 + column) % 23) - 11));
}

// The values of this rank's nodes, and the sum of all, by the definition of the tree.
float tree_sum(TreeNode node, int64_t column) {
  if (node.leaves() == 1) return leaf_value(node.begin, column);
  return tree_sum({node.begin, node.middle()}, column) + tree_sum({node.middle(), node.end}, column);
}

void compare_bits(Communicator& communicator) {
  const TreeExchange exchange(kLeaves, communicator.ranks());
  for (const int64_t n : {1, 1600, 100'000}) {
    std::vector<float> mine, sum(n), expected(n);
    for (const TreeNode& node : exchange.nodes[communicator.rank()]) {
      for (int64_t column = 0; column < n; ++column) mine.push_back(tree_sum(node, column));
    }
    for (int64_t column = 0; column < n; ++column) expected[column] = tree_sum({0, kLeaves}, column);
    communicator.tree_all_reduce("ffn", exchange, mine.data(), n, sum.data());
    PLEAT_ASSERT(std::memcmp(sum.data(), expected.data(), size_t(n) * sizeof(float)) == 0, "other bits at n = ", n);
  }
  std::vector<int64_t> counts(communicator.ranks());
  std::string expected, mine(communicator.rank() * 3, char('a' + communicator.rank()));
  for (int rank = 0; rank < communicator.ranks(); ++rank)
    expected += std::string(counts[rank] = rank * 3, char('a' + rank));
  std::string all(expected.size(), '?'), root = all, plan = communicator.rank() == 0 ? "plan" : "????";
  communicator.all_gather("tokens", std::as_bytes(std::span(mine)), counts, reinterpret_cast<std::byte*>(all.data()));
  communicator.gather("logits", std::as_bytes(std::span(mine)), counts,
                      communicator.rank() == 0 ? reinterpret_cast<std::byte*>(root.data()) : nullptr);
  communicator.broadcast("plan", std::as_writable_bytes(std::span(plan)));
  PLEAT_ASSERT(all == expected && plan == "plan" && (communicator.rank() > 0 || root == expected));
  communicator.barrier("end");
}

// More bytes than one message carries, and few from the others.
void compare_large(Communicator& communicator) {
  const int64_t large = (64 << 20) + 12345;
  std::vector<int64_t> counts(communicator.ranks(), 3);
  counts[1] = large;
  std::string mine(size_t(counts[communicator.rank()]), char('a' + communicator.rank()));
  mine.back() = '.';
  std::string all(size_t(large + 3 * (communicator.ranks() - 1)), '?'), expected;
  for (int rank = 0; rank < communicator.ranks(); ++rank)
    expected += std::string(size_t(counts[rank] - 1), char('a' + rank)) + '.';
  communicator.all_gather("large", std::as_bytes(std::span(mine)), counts, reinterpret_cast<std::byte*>(all.data()));
  PLEAT_ASSERT(all == expected);
}

void add_for_ever(Communicator& communicator, const std::string& mode) {
  const TreeExchange exchange(kLeaves, communicator.ranks());
  std::vector<float> mine(exchange.nodes[communicator.rank()].size() * 1600, 1.0f), sum(1600);
  for (int64_t step = 0;; ++step) {
    communicator.at(step, 3);
    communicator.tree_all_reduce("ffn", exchange, mine.data(), 1600, sum.data());
    if (step == 100 && communicator.rank() == 1) {
      if (mode == "exit0") std::exit(0);
      if (mode == "exit3") std::exit(3);
      if (mode == "invalid") throw Error(ErrorKind::invalid, "line 7 is not JSON");
    }
    if (step == 100) {
      std::printf("rank %d pid %d runs\n", communicator.rank(), getpid());
      std::fflush(stdout);
    }
    std::this_thread::sleep_for(1ms);
  }
}

int run(int, char** argv) {
  const std::string mode = argv[1];
  const std::chrono::milliseconds timeout(std::atoi(argv[2]));
  if (mode == "launcher") return std::printf("launcher %d\n", launcher_pid()) < 0;
  if (mode == "never-joins" && launched_rank().rank == 1) std::this_thread::sleep_for(1h);
  const bool between_hosts = mode.starts_with("messages-");
  const auto communicator = between_hosts ? join_job(1, timeout, MpiPath::between_hosts) : join_ranks(1, timeout);
  if (mode == "exit0-loading" && communicator->rank() == 1) {
    communicator->ledger().set_phase("loading");
    std::exit(0);
  }
  if (mode == "check") {
    print_short_preflight(*communicator);
    return run_check(*communicator, false);
  }
  if (mode == "bits" || mode == "messages-bits") {
    compare_bits(*communicator);
    if (between_hosts) compare_large(*communicator);
  } else if (mode == "loads") {  // rank 1 for twice the deadline, which others do not see
    if (communicator->rank() == 1) std::this_thread::sleep_for(2 * timeout);
    communicator->barrier_after("loaded", 1min);
  } else if (mode == "idle") {  // rank 0 has no work for twice the deadline
    for (auto waited = 0ms; communicator->rank() == 0 && waited < 2 * timeout; waited += timeout / 5) {
      std::this_thread::sleep_for(timeout / 5);
      communicator->ledger().beat();
    }
    communicator->barrier("plan");
  } else {
    add_for_ever(*communicator, mode);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return pleat::run_guarded(argc, argv, run); }
