// Kernels beside what the machine can do, measured in the same iterations: bytes, GB/s, share of the read bandwidth,
// and for products of many rows the share of the multipliers' peak.
//   bench_kernels [--threads=2] [--benchmark_filter=products/int4] [--benchmark_format=json] ...
#include "bench_kernels.h"

#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>

namespace pleat {
namespace {

std::unique_ptr<Machine> the_machine;

// Takes --threads=N out of the arguments.
int threads_of(int& argc, char** argv) {
  int threads = int(std::thread::hardware_concurrency());
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "--threads=", 10) != 0) continue;
    threads = std::max(1, std::atoi(argv[i] + 10));
    std::copy(argv + i + 1, argv + argc, argv + i);
    --argc, --i;
  }
  return threads;
}

}  // namespace

Machine& machine() { return *the_machine; }

}  // namespace pleat

int main(int argc, char** argv) {
  using namespace pleat;
  const int threads = threads_of(argc, argv);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  the_machine.reset(new Machine{Context(threads, false), Buffer(size_t(1536) << 20)});
  std::memset(machine().memory.as<void>(), 1, machine().memory.bytes());
  benchmark::AddCustomContext("instruction set", name_of(machine().context.isa()));
  benchmark::AddCustomContext("threads", std::to_string(threads));
  register_products();
  register_gathers();
  register_attention();
  benchmark::RunSpecifiedBenchmarks();
  the_machine.reset();
}
