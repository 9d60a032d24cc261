// Sums over ranks that are threads and share this device: an all-reduce's latency without a wire.
#include <algorithm>
#include <barrier>
#include <cmath>
#include <memory>
#include <thread>

#include "kernels/cuda/all_reduce.h"
#include "kernels/cuda/host_word.h"
#include "lab_matrix.h"

namespace pleat::lab {
namespace {

// How a call is made.
struct Way {
  bool two_shot = false;
  bool with_norm = false;  // with the residual addition and the norm behind it
  bool captured = false;   // as a graph of some
};

// Everything is there before the first kernel: what allocates may wait for kernels, which wait for other ranks.
struct Rank {
  Rank(int64_t capacity, int rows, int d, uint32_t seed)
      : exchange(size_t(2 * capacity)),
        flags(cuda::kAllReduceFlags),
        counters(cuda::kAllReduceCounters),
        mine(random_values(size_t(rows * d), seed), stream),
        residual(random_values(size_t(rows * d), kResidualSeed), stream),
        weight(random_values(size_t(d), kWeightSeed), stream),
        out(size_t(rows * d)) {
    cuda::zero(flags.data(), flags.size() * sizeof(unsigned), stream.get());
    cuda::zero(counters.data(), counters.size() * sizeof(unsigned), stream.get());
    stream.wait();
  }
  static constexpr uint32_t kResidualSeed = 101, kWeightSeed = 102;
  cuda::Stream stream;
  cuda::Event begin{cuda::Event::timed}, end{cuda::Event::timed};
  cuda::DeviceArray<float> exchange;
  cuda::DeviceArray<unsigned> flags, counters;
  cuda::DeviceArray<float> mine, residual, weight, out;
  cuda::HostWord status;
  std::unique_ptr<cuda::Graph> graph;
  double microseconds = 0;
};

struct Sums {
  Sums(int count, int rows, int d, Way way) : count(count), rows(rows), d(d), way(way) {
    for (int rank = 0; rank < count; ++rank)
      ranks.push_back(std::make_unique<Rank>(int64_t(rows) * d, rows, d, uint32_t(rank)));
  }

  void call(int rank) const {
    const Rank& mine = *ranks[size_t(rank)];
    cuda::AllReduce all{.rank = rank,
                        .ranks = count,
                        .capacity = int64_t(rows) * d,
                        .two_shot_bytes = way.two_shot ? 0 : int64_t(1) << 40,
                        .counters = mine.counters.data(),
                        .spins = 1u << 26,
                        .abort = abort.on_device(),
                        .status = mine.status.on_device()};
    for (int peer = 0; peer < count; ++peer) {
      all.peers.exchange[peer] = ranks[size_t(peer)]->exchange.data();
      all.peers.flags[peer] = ranks[size_t(peer)]->flags.data();
    }
    const cuda::SumOrder order = cuda::SumOrder::by_rank(count);
    if (way.with_norm)
      cuda::all_reduce_add_norm(mine.stream.get(), all, order, rows, d, mine.mine.data(), nullptr, norm_of(mine),
                                mine.residual.data(), mine.out.data());
    else
      cuda::all_reduce(mine.stream.get(), all, order, rows, d, mine.mine.data(), mine.out.data());
  }

  // `calls` of a rank, a multiple of kCaptured where they are captured.
  void calls(int rank, int calls) const {
    const Rank& mine = *ranks[size_t(rank)];
    if (way.captured)
      for (int i = 0; i < calls; i += kCaptured) mine.graph->launch(mine.stream);
    else
      for (int i = 0; i < calls; ++i) call(rank);
  }

  void capture() {
    for (int rank = 0; rank < count; ++rank)
      ranks[size_t(rank)]->graph = std::make_unique<cuda::Graph>(ranks[size_t(rank)]->stream, [&] {
        for (int i = 0; i < kCaptured; ++i) call(rank);
      });
  }

  static cuda::Norm norm_of(const Rank& rank) { return {rank.weight.data(), nullptr, 1e-5f, false}; }

  static constexpr int kCaptured = 20;
  int count, rows, d;
  Way way;
  cuda::HostWord abort;
  std::vector<std::unique_ptr<Rank>> ranks;
};

// After `calls`: what is added each time, and of the last the norm.
std::string wrong_in(const Sums& sums, const cuda::Stream& stream, int calls) {
  std::vector<float> sum = sums.ranks[0]->mine.to_host(stream);
  for (size_t peer = 1; peer < sums.ranks.size(); ++peer) {
    const std::vector<float> more = sums.ranks[peer]->mine.to_host(stream);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += more[i];
  }
  std::vector<float> added = random_values(sum.size(), Rank::kResidualSeed);
  for (size_t i = 0; i < sum.size(); ++i)
    for (int call = 0; call < calls; ++call) added[i] += sum[i];
  const std::vector<float> weight = random_values(size_t(sums.d), Rank::kWeightSeed);
  for (const auto& rank : sums.ranks) {
    if (cuda::AllReduceStatus(rank->status.load()).failed) return "a rank waited in vain";
    const std::vector<float> out = rank->out.to_host(stream), residual = rank->residual.to_host(stream);
    const std::vector<float>& got = sums.way.with_norm ? residual : out;
    const std::vector<float>& expected = sums.way.with_norm ? added : sum;
    for (size_t i = 0; i < got.size(); ++i)
      if (got[i] != expected[i]) return concat("element ", i, " is ", got[i], ", expected ", expected[i]);
    for (int row = 0; row < sums.rows && sums.way.with_norm; ++row) {
      const float* const x = &residual[size_t(row * sums.d)];
      double squares = 0;
      for (int i = 0; i < sums.d; ++i) squares += double(x[i]) * x[i];
      const double scale = 1 / std::sqrt(squares / sums.d + 1e-5);
      for (int i = 0; i < sums.d; ++i) {
        Sum y;
        y.add(x[i] * scale, weight[size_t(i)]);
        const int at = row * sums.d + i;
        if (std::string wrong = y.compare(out[size_t(at)], sums.d, at); !wrong.empty()) return wrong;
      }
    }
  }
  return "";
}

void all_reduce(Lab& lab, int count, int rows, int d, Way way) {
  Sums sums(count, rows, d, way);
  if (way.captured) sums.capture();
  const int calls = way.captured ? lab.size(200, Sums::kCaptured) : lab.size(200, 1);
  constexpr int kRounds = 2;  // the first warms up
  std::barrier together(count);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < count; ++rank)
    threads.emplace_back([&, rank] {
      Rank& mine = *sums.ranks[size_t(rank)];
      for (int round = 0; round < kRounds; ++round) {
        together.arrive_and_wait();
        mine.begin.record(mine.stream);
        sums.calls(rank, calls);
        mine.end.record(mine.stream);
        mine.stream.wait();
        mine.microseconds = 1e3 * double(mine.end.milliseconds_since(mine.begin)) / calls;
      }
    });
  for (std::thread& thread : threads) thread.join();

  double slowest = 0;
  for (const auto& rank : sums.ranks) slowest = std::max(slowest, rank->microseconds);
  lab.report({.kernel = concat(way.with_norm ? "all_reduce_add_norm, " : "all_reduce, ",
                               way.two_shot ? "two-shot" : "one-shot", way.captured ? ", captured" : ""),
              .shape = concat(count, " ranks on one device, [", rows, ", ", d, "]"),
              .bytes = 4.0 * rows * d * ((way.two_shot ? 2 : count) + (way.with_norm ? 3 : 0)),
              .check = {},
              .call = {}},
             wrong_in(sums, lab.stream(), kRounds * calls), slowest);
}

}  // namespace

void sums(Lab& lab) {
  const int d = lab.size(4096, 64);
  for (const int ranks : {2, 4, 8})
    for (const int rows : {1, 16})
      for (const bool two_shot : {false, true})
        for (const Way& way : {Way{two_shot, false, false}, Way{two_shot, true, false}, Way{two_shot, true, true}}) {
          if (lab.tiny() && way.captured && ranks > 2) continue;  // many calls
          all_reduce(lab, ranks, rows, d, way);
        }
}

}  // namespace pleat::lab
