#include <algorithm>
#include <cstdio>
#include <string>

#include <nlohmann/json.hpp>

#include "kernels/check.h"
#include "launcher/preflight.h"

namespace pleat {
namespace {

double gigabytes(int64_t bytes) { return double(bytes) * 1e-9; }

std::string size_text(int64_t bytes) {
  return bytes < (1 << 20) ? concat(bytes >> 10, " KB") : concat(bytes >> 20, " MB");
}

void print_table(const Preflight& result) {
  int host_width = 4;
  for (const RankReport& rank : result.ranks) host_width = std::max(host_width, int(rank.host.size()));
  std::printf("rank  %-*s      pid  threads  cores  isa       memory free\n", host_width, "host");
  for (size_t i = 0; i < result.ranks.size(); ++i) {
    const RankReport& rank = result.ranks[i];
    std::printf("%4zu  %-*s  %7d  %7d  %5d  %-8s  %.1f of %.1f GB\n", i, host_width, rank.host.c_str(), rank.pid,
                rank.threads, rank.cores, rank.isa.c_str(), gigabytes(rank.memory_free), gigabytes(rank.memory_total));
  }
  print_links(result.links);
  std::printf("\n");
  for (const std::string& warning : result.warnings) std::printf("warning: %s\n", warning.c_str());
  std::printf("%s\n", result.verdict.c_str());
}

void print_json(const Preflight& result) {
  nlohmann::ordered_json ranks = nlohmann::ordered_json::array();
  for (const RankReport& rank : result.ranks) {
    ranks.push_back({{"host", rank.host},
                     {"pid", rank.pid},
                     {"threads", rank.threads},
                     {"cores", rank.cores},
                     {"host_cores", rank.host_cores},
                     {"isa", rank.isa},
                     {"memory_free", rank.memory_free},
                     {"memory_total", rank.memory_total}});
  }
  const nlohmann::ordered_json report = {{"ranks", ranks},
                                         {"all_reduce", links_json(result.links)},
                                         {"same_bits", result.same_bits},
                                         {"warnings", result.warnings},
                                         {"verdict", result.verdict},
                                         {"good", result.good()}};
  std::printf("%s\n", report.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace).c_str());
}

}  // namespace

void print_links(const std::vector<LinkReport>& links) {
  if (!links.empty()) std::printf("\nall-reduce      p50 us      p99 us      GB/s\n");
  for (const LinkReport& link : links)
    std::printf("%10s  %10.1f  %10.1f  %8.2f\n", size_text(link.bytes).c_str(), link.p50_us, link.p99_us,
                link.gb_per_s);
}

nlohmann::ordered_json links_json(const std::vector<LinkReport>& links) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const LinkReport& link : links)
    all.push_back(
        {{"bytes", link.bytes}, {"p50_us", link.p50_us}, {"p99_us", link.p99_us}, {"gb_per_s", link.gb_per_s}});
  return all;
}

int run_check(Communicator& communicator, bool json) {
  const Preflight result = preflight(communicator, true);
  if (communicator.rank() == 0) json ? print_json(result) : print_table(result);
  return result.good() ? 0 : 1;
}

void print_short_preflight(Communicator& communicator) {
  const Preflight result = preflight(communicator, false);
  if (communicator.rank() != 0) return;
  const RankReport& first = result.ranks[0];
  const std::string where = result.hosts() == 1 ? first.host : concat(result.hosts(), " hosts");
  std::fprintf(stderr, "preflight: %zu %s on %s, %d %s each, %s, %.1f of %.1f GB free; %s\n", result.ranks.size(),
               result.ranks.size() == 1 ? "rank" : "ranks", where.c_str(), first.threads,
               first.threads == 1 ? "thread" : "threads", first.isa.c_str(), gigabytes(first.memory_free),
               gigabytes(first.memory_total),
               result.same_bits ? "same bits as one rank" : "the ranks do NOT compute the same bits");
  if (!result.warnings.empty()) std::fprintf(stderr, "preflight: warning: %s\n", result.warnings[0].c_str());
}

}  // namespace pleat
