#pragma once
// Timed steps of decoding, phase by phase, beside the read bandwidth of the same minutes.
#include "launcher/bench.h"
#include "launcher/step_profile.h"

namespace pleat {

double median(std::vector<double> values);  // 0 of none

// `batch` sequences, each with a run of pages of its own, `count` rows from `position` on. Their prompts end with the
// first measured or warming step.
StepPlan plan_of(const BenchOptions& options, int64_t step, int position, int count, int batch, bool folded,
                 bool prompt_end);

struct Measurement {
  double seconds = 0;  // of the median step
  double mean_seconds = 0;
  double bytes = 0;                                // weight bytes a step, all ranks
  double phase_seconds[EngineStatistics::phases];  // a step, rank 0
  double phase_bytes[EngineStatistics::phases];    // a step, all ranks
  double bandwidth = 0;                            // bytes/s measured beside it
  bool on_device = false;                          // where the bandwidth is a copy's
  bool by_phase = false;                           // whether phases are told apart
  bool counted = false;                            // the next three are
  double reduction = 0;                            // share of FFN bytes not read
  double fallback = 0;                             // share of neurons, per row
  double imbalance = 1;                            // fix-up rows, slowest rank / mean
  std::vector<RankProfile> profile;                // [ranks] where it was asked for
};

// Of each subject, decoding `batch` sequences, whole on rank 0. The subjects take turns, with a bandwidth reading
// between, so that a drifting machine changes all alike. `step`: the last step's number, moved on. Collective.
std::vector<Measurement> measure_decoding(Communicator& communicator, const BenchOptions& options, Subjects& subjects,
                                          int batch, int64_t& step);

}  // namespace pleat
