#pragma once
// Where the time of a step goes, rank by rank: in kernels, at barriers between threads, in collectives.
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "core/engine/engine.h"

namespace pleat {

// A mean step of one rank; seconds.
struct RankProfile {
  double step = 0;
  double kernels = 0;      // products, attention, selections: the phases but collective and other, without barriers
  double barriers = 0;     // the rank's first thread, waiting for its others
  double collectives = 0;  // all of it, of which
  double waiting = 0;      // for another rank
  double barrier_count = 0, collective_count = 0, bytes_sent = 0;
  double fallback = 0;  // neurons computed exactly, all layers
  double compute() const { return step - collectives; }
};

// Collective; in rank order on rank 0, empty on the others. Without EngineOptions::phases
// what runs on a device is one kernel-less whole.
std::vector<RankProfile> step_profile(Communicator& communicator, const EngineStatistics& statistics);

nlohmann::json to_json(const RankProfile& rank);
void print(const std::vector<RankProfile>& ranks);

}  // namespace pleat
