// Sums over ranks that are threads and share this device: an all-reduce's latency without a wire.
#include <algorithm>
#include <memory>
#include <thread>

#include "kernels/cuda/all_reduce.h"
#include "kernels/cuda/host_word.h"
#include "lab_matrix.h"

namespace pleat::lab {
namespace {

struct Rank {
  Rank(int64_t capacity, int count, uint32_t seed)
      : exchange(size_t(2 * capacity)),
        flags(cuda::kAllReduceFlags),
        counters(cuda::kAllReduceCounters),
        mine(random_values(size_t(count), seed), stream),
        out(size_t(count)) {
    cuda::zero(flags.data(), flags.size() * sizeof(unsigned), stream.get());
    cuda::zero(counters.data(), counters.size() * sizeof(unsigned), stream.get());
    stream.wait();
  }
  cuda::Stream stream;
  cuda::DeviceArray<float> exchange;
  cuda::DeviceArray<unsigned> flags, counters;
  cuda::DeviceArray<float> mine, out;
  cuda::HostWord status;
  double microseconds = 0;
};

void all_reduce(Lab& lab, int count, int rows, int d, bool two_shot) {
  const int64_t capacity = int64_t(rows) * d;
  std::vector<std::unique_ptr<Rank>> ranks;
  for (int rank = 0; rank < count; ++rank) ranks.push_back(std::make_unique<Rank>(capacity, rows * d, uint32_t(rank)));
  const cuda::HostWord abort;
  const auto side = [&](int rank) {
    cuda::AllReduce all{.rank = rank,
                        .ranks = count,
                        .capacity = capacity,
                        .two_shot_bytes = two_shot ? 0 : int64_t(1) << 40,
                        .counters = ranks[size_t(rank)]->counters.data(),
                        .spins = 1u << 26,
                        .abort = abort.on_device(),
                        .status = ranks[size_t(rank)]->status.on_device()};
    for (int peer = 0; peer < count; ++peer) {
      all.peers.exchange[peer] = ranks[size_t(peer)]->exchange.data();
      all.peers.flags[peer] = ranks[size_t(peer)]->flags.data();
    }
    return all;
  };
  const int calls = lab.size(200, 1);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < count; ++rank)
    threads.emplace_back([&, rank] {
      Rank& mine = *ranks[size_t(rank)];
      cuda::Event begin(cuda::Event::timed), end(cuda::Event::timed);
      for (int round = 0; round < 2; ++round) {  // the first warms up
        begin.record(mine.stream);
        for (int call = 0; call < calls; ++call)
          cuda::all_reduce(mine.stream.get(), side(rank), cuda::SumOrder::by_rank(count), rows, d, mine.mine.data(),
                           mine.out.data());
        end.record(mine.stream);
        mine.stream.wait();
        mine.microseconds = 1e3 * double(end.milliseconds_since(begin)) / calls;
      }
    });
  for (std::thread& thread : threads) thread.join();

  std::string wrong;
  double slowest = 0;
  std::vector<std::vector<float>> given;
  for (const auto& rank : ranks) given.push_back(rank->mine.to_host(lab.stream()));
  for (const auto& rank : ranks) {
    slowest = std::max(slowest, rank->microseconds);
    const std::vector<float> got = rank->out.to_host(lab.stream());
    if (cuda::AllReduceStatus(rank->status.load()).failed) wrong = "a rank waited in vain";
    for (size_t i = 0; i < got.size() && wrong.empty(); ++i) {
      float expected = given[0][i];
      for (size_t peer = 1; peer < given.size(); ++peer) expected += given[peer][i];
      if (got[i] != expected) wrong = concat("element ", i, " is ", got[i], ", expected ", expected);
    }
  }
  lab.report({.kernel = two_shot ? "all_reduce, two-shot" : "all_reduce, one-shot",
              .shape = concat(count, " ranks on one device, [", rows, ", ", d, "]"),
              .bytes = 4.0 * rows * d * (two_shot ? 2 : count),
              .check = {},
              .call = {}},
             wrong, slowest);
}

}  // namespace

void sums(Lab& lab) {
  const int d = lab.size(4096, 64);
  for (const int ranks : {2, 4, 8})
    for (const int rows : {1, 16})
      for (const bool two_shot : {false, true}) all_reduce(lab, ranks, rows, d, two_shot);
}

}  // namespace pleat::lab
