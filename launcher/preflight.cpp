#include "launcher/preflight.h"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <iomanip>
#include <set>
#include <span>
#include <sstream>

#include "kernels/check.h"
#include "kernels/context.h"
#include "launcher/bootstrap.h"
#include "launcher/rank_process.h"
#include "parallel/cores.h"
#include "parallel/host_memory.h"
#include "parallel/shard_plan.h"

namespace pleat {
namespace {

constexpr int64_t kTypical = 16 << 10;  // d = 4096, one row
constexpr double kSlow_us = 200;        // for it, inside one host
constexpr int64_t kTimeASize_ns = 150'000'000;
constexpr size_t kMostRepeats = 2000;

// RankReport as bytes.
struct Card {
  char host[64] = {};
  int pid = 0, cores = 0, host_cores = 0, threads = 0, isa = 0;
  int64_t memory_total = 0, memory_free = 0;
};

Card my_card() {
  Card card;
  gethostname(card.host, sizeof card.host - 1);
  card.pid = getpid();
  card.cores = int(cores_of_process(0).count());
  card.host_cores = job_cores();
  card.threads = rank_process().threads;
  card.isa = int(detect_isa());
  const HostMemory memory = host_memory();
  card.memory_total = memory.total;
  card.memory_free = memory.available;
  return card;
}

std::vector<RankReport> introduce(Communicator& communicator) {
  const Card mine = my_card();
  std::vector<Card> cards(communicator.ranks());
  const std::vector<int64_t> counts(communicator.ranks(), sizeof mine);
  communicator.all_gather("preflight", std::as_bytes(std::span(&mine, 1)), counts,
                          reinterpret_cast<std::byte*>(cards.data()));
  std::vector<RankReport> reports;
  reports.reserve(cards.size());
  for (const Card& card : cards) {
    reports.push_back({card.host, card.pid, card.cores, card.host_cores, card.threads, name_of(Isa(card.isa)),
                       card.memory_total, card.memory_free});
  }
  return reports;
}

// Values whose sum shows every change in the order of additions.
std::vector<std::vector<float>> awkward_leaves(int64_t n) {
  std::vector<std::vector<float>> leaves(kVirtualShards, std::vector<float>(n));
  for (int leaf = 0; leaf < kVirtualShards; ++leaf) {
    for (int64_t i = 0; i < n; ++i) {
      const uint32_t bits = (uint32_t(leaf) * 2654435761u + uint32_t(i)) * 2246822519u;
      leaves[leaf][i] = std::ldexp(float(bits >> 9) - float(1 << 22), int(bits % 29) - 36);
    }
  }
  return leaves;
}

// What this rank owns of the sum, and then the whole, as one rank would have it.
std::vector<float> node_sum(const std::vector<std::vector<float>>& leaves, TreeNode node) {
  if (node.leaves() == 1) return leaves[node.begin];
  std::vector<float> sum = node_sum(leaves, {node.begin, node.middle()});
  const std::vector<float> right = node_sum(leaves, {node.middle(), node.end});
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += right[i];
  return sum;
}

std::vector<std::string> warnings(const Preflight& result) {
  std::vector<std::string> texts;
  std::set<std::string> hosts, isas;
  for (const RankReport& rank : result.ranks) {
    hosts.insert(rank.host);
    isas.insert(rank.isa);
  }
  if (isas.size() > 1) texts.push_back("the ranks have different instruction sets: all use the smallest");
  for (const std::string& host : hosts) {
    int ranks = 0, threads = 0, cores = 0, host_cores = 0, rank_threads = 0;
    for (const RankReport& rank : result.ranks) {
      if (rank.host != host) continue;
      ++ranks;
      threads += rank.threads;
      cores = std::max(cores, rank.cores);
      rank_threads = std::max(rank_threads, rank.threads);
      host_cores = rank.host_cores;
    }
    if (threads > host_cores || rank_threads > cores) {
      texts.push_back(concat("host ", host, ": ", ranks, " ranks run ", threads, " threads on ",
                             std::min(host_cores, cores * ranks),
                             " cores: start fewer ranks or give a smaller --threads"));
    } else if (cores < host_cores / ranks) {
      texts.push_back(concat("host ", host, ": a rank may use ", cores, " of ", host_cores,
                             " cores: start mpirun with --bind-to none or --map-by slot:PE=", host_cores / ranks));
    }
  }
  return texts;
}

std::string verdict(const Preflight& result) {
  const std::string who = concat(result.ranks.size(), result.ranks.size() == 1 ? " rank" : " ranks", " on ",
                                 result.hosts(), result.hosts() == 1 ? " host" : " hosts");
  if (!result.same_bits) return who + " do not compute the same bits: do not run a job here";
  std::ostringstream text;
  text << who << (result.warnings.empty() ? ", ready" : ", usable with a loss") << ": the same bits as one rank";
  for (const LinkReport& link : result.links) {
    if (link.bytes != kTypical) continue;
    text << ", an all-reduce of " << (kTypical >> 10) << " KB takes " << std::fixed << std::setprecision(1)
         << link.p50_us << " us";
  }
  return text.str();
}

}  // namespace

bool same_bits(Communicator& communicator, const SumOfRanks& sum_of_ranks, bool in_any_order) {
  constexpr int64_t n = 1000;
  const std::vector<std::vector<float>> leaves = awkward_leaves(n);
  const TreeExchange exchange(kVirtualShards, communicator.ranks());
  std::vector<float> mine, sum(n), from_zero(n);
  for (const TreeNode& node : exchange.nodes[communicator.rank()]) {
    const std::vector<float> part = node_sum(leaves, node);
    mine.insert(mine.end(), part.begin(), part.end());
  }
  sum_of_ranks(exchange, mine.data(), n, sum.data());
  from_zero = sum;
  communicator.broadcast("preflight", std::as_writable_bytes(std::span(from_zero)));
  const std::vector<float> alone = node_sum(leaves, {0, kVirtualShards});
  const auto bits = [](float value) { return std::bit_cast<uint32_t>(value); };
  const auto equal = [&](const std::vector<float>& other) { return std::ranges::equal(sum, other, {}, bits, bits); };
  return communicator.agree_min("preflight", (in_any_order || equal(alone)) && equal(from_zero)) == 1;
}

LinkReport measure_sums(Communicator& communicator, int64_t bytes, int count, const std::function<void()>& sums) {
  const auto once_us = [&] {
    const int64_t start = steady_ns();
    sums();
    return double(steady_ns() - start) * 1e-3 / count;
  };
  for (int i = 0; i < 3; ++i) once_us();  // the slots' first touch

  // Rank 0 watches the clock for all.
  std::vector<double> times;
  const int64_t start = steady_ns();
  for (uint8_t more = 1; more;) {
    for (int i = 0; i < 5; ++i) times.push_back(once_us());
    more = times.size() < kMostRepeats && steady_ns() - start < kTimeASize_ns;
    communicator.broadcast("preflight", std::as_writable_bytes(std::span(&more, 1)));
  }
  std::sort(times.begin(), times.end());
  const double p50 = times[times.size() / 2];
  return {bytes, p50, times[times.size() * 99 / 100], double(bytes) / p50 * 1e-3};
}

int Preflight::hosts() const {
  std::set<std::string> names;
  for (const RankReport& rank : ranks) names.insert(rank.host);
  return int(names.size());
}

Preflight preflight(Communicator& communicator, bool full) {
  Preflight result;
  result.ranks = introduce(communicator);
  const SumOfRanks sum = [&](const TreeExchange& exchange, const float* mine, int64_t n, float* out) {
    communicator.tree_all_reduce("preflight", exchange, mine, n, out);
  };
  result.same_bits = same_bits(communicator, sum);
  result.warnings = warnings(result);
  if (full && communicator.ranks() > 1) {
    const TreeExchange exchange(kVirtualShards, communicator.ranks());
    const std::vector<float> mine(exchange.nodes[communicator.rank()].size() * kLargestSum / sizeof(float), 1.0f);
    std::vector<float> out(kLargestSum / sizeof(float));
    for (int64_t bytes = kSmallestSum; bytes <= kLargestSum; bytes *= 4)
      result.links.push_back(measure_sums(
          communicator, bytes, 1, [&] { sum(exchange, mine.data(), bytes / int64_t(sizeof(float)), out.data()); }));
    const auto typical = std::find_if(result.links.begin(), result.links.end(),
                                      [](const LinkReport& link) { return link.bytes == kTypical; });
    if (result.hosts() == 1 && typical->p50_us > kSlow_us) {
      result.warnings.push_back(concat("an all-reduce of ", kTypical >> 10, " KB inside one host takes more than ",
                                       kSlow_us, " us: other programs use its cores"));
    }
  }
  result.verdict = verdict(result);
  return result;
}

}  // namespace pleat
