#pragma once
// `pleat bench`: measurements, each beside the machine's own read bandwidth measured in the same run.
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "core/engine/engine.h"
#include "kernels/context.h"
#include "launcher/command.h"

namespace pleat {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct BenchOptions {
  CommonOptions common;
  std::string model;          // a folder, or
  std::string synthetic;      // a named shape with random weights
  int layers = 0;             // of the synthetic shape; 0: as many as fit in memory, at most the shape's own
  std::vector<double> folds;  // also measure the shape folded at these reductions (a folded folder: always)
  std::string weights;        // also measure the shape with its matrices in this low-bit format; empty: not
  std::vector<int> batches = {1};
  int context = 128;     // tokens before the first measured one
  int tokens = 32;       // measured steps
  bool profile = false;  // also where the time of decoding went, rank by rank
};

// A published shape's blueprint; `name`: one of shape_names(), ascending.
Blueprint shape_named(const std::string& name);
std::vector<std::string> shape_names();

// One model to measure; several may share a context.
struct Subject {
  std::string name;  // "dense", a low-bit format, "folded" or "folded int4", of several folds "folded 0.8"
  std::unique_ptr<Engine> engine;
  bool folded = false;
  int64_t weight_bytes = 0;
};

struct Subjects {
  std::unique_ptr<Context> context;
  std::vector<std::unique_ptr<Context>> more_contexts;  // of further folders' engines
  std::vector<Subject> all;
  int layers = 0;
  std::string shape;  // one line about it
};

Subjects make_subjects(Communicator& communicator, const BenchOptions& options);

// Bytes per second of all ranks at once, on sets far larger than any cache; the best of a few passes: read from the
// hosts' memory, or read and written in copies on the devices. Collective; 0 on ranks other than 0.
double total_bandwidth(Communicator& communicator, Context& context, bool on_device);

int bench_decode(Communicator& communicator, const BenchOptions& options);
int bench_prefill(Communicator& communicator, const BenchOptions& options);
int bench_fold(Communicator& communicator, const BenchOptions& options);
int bench_load(Communicator& communicator, const BenchOptions& options);
int bench_allreduce(Communicator& communicator, const BenchOptions& options);

}  // namespace pleat
