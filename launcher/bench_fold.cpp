// The FFN by itself: dense against folded, by the share of its bytes that the fold saves and by batch.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "kernels/check.h"
#include "launcher/bench_steps.h"

namespace pleat {
namespace {

// A mean step's FFN: rank 0's seconds, all ranks' bytes.
struct FfnShare {
  double seconds = 0, bytes = 0;

  explicit FfnShare(const Measurement& m) {
    for (const int phase :
         {EngineStatistics::dense_ffn, EngineStatistics::fold, EngineStatistics::predictor, EngineStatistics::fixup}) {
      seconds += m.phase_seconds[phase];
      bytes += m.phase_bytes[phase];
    }
  }
};

void print_ffns(const BenchOptions& options, const Subjects& subjects, const std::vector<Measurement>& results,
                int batch) {
  const FfnShare dense(results[0]);
  if (!options.common.json) {
    std::printf("%s; batch %d; %s bandwidth %.1f GB/s\n", subjects.shape.c_str(), batch,
                results[0].on_device ? "the device's copy" : "read", results[0].bandwidth / 1e9);
    std::printf("  %-18s %10s %9s %7s %12s | %-14s by bytes  reached  whole step\n", "FFN of a step", "MB", "ms",
                "GB/s", "of bandwidth", "times as fast:");
  }
  for (size_t i = 0; i < results.size(); ++i) {
    const Measurement& m = results[i];
    const FfnShare ffn(m);
    const double rate = ffn.bytes / ffn.seconds, by_bytes = dense.bytes / ffn.bytes;
    const double reached = dense.seconds / ffn.seconds, whole = results[0].seconds / m.seconds;
    if (!options.common.json)
      std::printf("  %-18s %10.1f %9.3f %7.1f %11.0f%% | %14s %7.2fx %7.2fx %10.2fx\n", subjects.all[i].name.c_str(),
                  ffn.bytes / 1e6, ffn.seconds * 1e3, rate / 1e9, 100 * rate / m.bandwidth, "", by_bytes, reached,
                  whole);
    else
      std::printf("%s\n", nlohmann::json{{"shape", subjects.shape},
                                         {"batch", batch},
                                         {"subject", subjects.all[i].name},
                                         {"ffn_ms", ffn.seconds * 1e3},
                                         {"ffn_bytes", ffn.bytes},
                                         {"gb_per_second", rate / 1e9},
                                         {"read_bandwidth_gb_per_second", m.bandwidth / 1e9},
                                         {"share_of_bandwidth", rate / m.bandwidth},
                                         {"ffn_speedup_by_bytes", by_bytes},
                                         {"ffn_speedup", reached},
                                         {"step_speedup", whole}}
                              .dump()
                              .c_str());
  }
}

}  // namespace

int bench_fold(Communicator& communicator, const BenchOptions& options) {
  BenchOptions filled = options;
  filled.profile = true;  // on a device too phases are told apart
  if (filled.folds.empty() && filled.model.empty()) {
    filled.folds = {0.8};
    // Low-bit matrices have fewer bytes than half of bf16's to begin with.
    if (filled.weights.empty()) filled.folds = {0.5, 0.7, 0.8};
  }
  Subjects subjects = make_subjects(communicator, filled);
  PLEAT_REQUIRE(subjects.all.size() > 1, filled.model, " does not run both densely and folded: nothing to compare");
  int64_t step = 0;
  for (int batch : filled.batches) {
    const std::vector<Measurement> results = measure_decoding(communicator, filled, subjects, batch, step);
    if (communicator.rank() == 0) print_ffns(filled, subjects, results, batch);
  }
  return 0;
}

}  // namespace pleat
