#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "launcher/bench.h"
#include "launcher/bootstrap.h"
#include "launcher/model_folder.h"
#include "launcher/preflight.h"
#include "launcher/together.h"

namespace pleat {

int bench_load(Communicator& communicator, const BenchOptions& options) {
  agree(communicator, [&] { check_model(options.model, communicator.ranks(), reduction_kind(options.common)); });
  struct Report {
    double seconds;
    int64_t read, weights, peak, before;
  } mine{};
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  mine.before = usage.ru_maxrss * 1024;
  ModelOptions model{options.model, false, {}};
  model.engine.max_rows = 16;
  model.engine.kv_tokens = 16;
  const auto start = std::chrono::steady_clock::now();
  const LoadedModel loaded = load_on_ranks(model, options.common, communicator);
  mine.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  getrusage(RUSAGE_SELF, &usage);
  mine.peak = usage.ru_maxrss * 1024;
  mine.read = loaded.bytes_read;
  mine.weights = loaded.weight_bytes;
  const std::vector<Report> all = gather_values(communicator, "load", mine);
  for (size_t rank = 0; rank < all.size(); ++rank) {
    const Report& r = all[rank];
    const double mb = 1e6, grown = double(r.peak - r.before);
    if (options.common.json)
      std::printf("%s\n", nlohmann::json{{"rank", rank},
                                         {"seconds", r.seconds},
                                         {"bytes_read", r.read},
                                         {"weight_bytes", r.weights},
                                         {"peak_bytes", r.peak},
                                         {"peak_growth_over_weights", grown / double(r.weights)}}
                              .dump()
                              .c_str());
    else
      std::printf(
          "rank %zu: read %.1f MB in %.2f s (%.2f GB/s), holds %.1f MB packed, peak memory %.1f MB (%.1f MB before): "
          "%.2fx\n",
          rank, double(r.read) / mb, r.seconds, double(r.read) / r.seconds / 1e9, double(r.weights) / mb,
          double(r.peak) / mb, double(r.before) / mb, grown / double(r.weights));
  }
  return 0;
}

int bench_allreduce(Communicator& communicator, const BenchOptions& options) {
  return run_check(communicator, options.common.json);
}

}  // namespace pleat
