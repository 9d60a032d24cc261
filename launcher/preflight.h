#pragma once
// Who is where, how fast the ranks talk to each other, and whether they compute the same bits.
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "parallel/communicator.h"

namespace pleat {

struct RankReport {
  std::string host;
  int pid = 0;
  int cores = 0;       // this process may use
  int host_cores = 0;  // of the host, that the job may use
  int threads = 0;
  std::string isa;
  int64_t memory_total = 0, memory_free = 0;  // bytes of the host
};

struct LinkReport {  // a tree all-reduce of `bytes`, as a layer does it
  int64_t bytes = 0;
  double p50_us = 0, p99_us = 0;
  double gb_per_s = 0;  // bytes / p50
};

struct Preflight {
  std::vector<RankReport> ranks;  // the same on every rank
  std::vector<LinkReport> links;  // rank 0 only; empty in the short form
  bool same_bits = false;
  std::vector<std::string> warnings;
  std::string verdict;  // one sentence

  bool good() const { return same_bits; }
  int hosts() const;
};

// out [n] = the sum over the ranks of mine, this rank's nodes of `exchange`.
using SumOfRanks = std::function<void(const TreeExchange& exchange, const float* mine, int64_t n, float* out)>;

// Collective. Whether `sum` has one rank's bits on every rank; `in_any_order`: the same bits on all ranks.
bool same_bits(Communicator& communicator, const SumOfRanks& sum, bool in_any_order = false);

// Collective. Calls `sums`, which all ranks make together, until rank 0's clock has seen enough.
//   bytes  of a message, of which `sums` makes so many one after the other
LinkReport measure_sums(Communicator& communicator, int64_t bytes, int count, const std::function<void()>& sums);

// Sizes in bytes of the measured all-reduces, each four times the last.
constexpr int64_t kSmallestSum = 1 << 10, kLargestSum = 4 << 20;

// Collective. The full form measures all-reduces of 1 KB to 4 MB and takes a second or two.
Preflight preflight(Communicator& communicator, bool full);

// `pleat check`: the full form as a table (or one JSON object) on rank 0's stdout. Exit code: 0, or 1 when bits differ.
int run_check(Communicator& communicator, bool json);

// p50, p99 and GB/s by size: lines of a table, or JSON's.
void print_links(const std::vector<LinkReport>& links);
nlohmann::ordered_json links_json(const std::vector<LinkReport>& links);

// The start of every job: one or two lines on rank 0's stderr.
void print_short_preflight(Communicator& communicator);

}  // namespace pleat
