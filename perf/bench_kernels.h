#pragma once
// What the benchmarks of kernels share: where they run, and the peaks that their figures are shares of.
#include <algorithm>
#include <vector>

#include <benchmark/benchmark.h>

#include "kernels/context.h"
#include "kernels/stream_read.h"
#include "measure.h"

namespace pleat {

struct Machine {
  Context context;
  Buffer memory;  // far larger than any cache
};
Machine& machine();

// Each registers its benchmarks by name: products/..., gather/..., attention/...
void register_products();
void register_gathers();
void register_attention();

// Times work() once an iteration (manual time), each time after a reading of the bandwidth. Counters: bytes, GB/s and
// "%read", the share of the bandwidth read in the same iterations. Returns the median seconds.
template <class Work>
double measure_reads(benchmark::State& state, double bytes, Work&& work) {
  std::vector<double> times, reads;
  work();  // warm
  for ([[maybe_unused]] auto _ : state) {
    reads.push_back(stream_read(machine().context, machine().memory));
    const double start = seconds();
    work();
    times.push_back(seconds() - start);
    state.SetIterationTime(times.back());
  }
  const double time = median(times), read = median(reads);
  state.counters["MB"] = bytes / 1e6;
  state.counters["GB/s"] = bytes / time / 1e9;
  state.counters["%read"] = 100 * bytes / time / read;
  return time;
}

// A benchmark of `iterations` measured iterations, with times in ms.
template <class Function>
void add_benchmark(const std::string& name, int iterations, Function function) {
  benchmark::RegisterBenchmark(name.c_str(), function)
      ->UseManualTime()
      ->Iterations(iterations)
      ->Unit(benchmark::kMillisecond);
}

}  // namespace pleat
