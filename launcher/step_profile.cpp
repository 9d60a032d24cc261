#include "launcher/step_profile.h"

#include <algorithm>
#include <cstdio>

#include <nlohmann/json.hpp>

#include "launcher/together.h"

namespace pleat {

std::vector<RankProfile> step_profile(Communicator& communicator, const EngineStatistics& statistics) {
  const double steps = double(std::max<int64_t>(1, statistics.steps));
  const EngineStatistics::Waits& waits = statistics.waits;
  RankProfile mine;
  for (int phase = 0; phase < EngineStatistics::phases; ++phase) {
    mine.step += statistics.seconds[phase] / steps;
    if (phase != EngineStatistics::collective && phase != EngineStatistics::other)
      mine.kernels += statistics.seconds[phase] / steps;
  }
  mine.barriers = waits.barrier_seconds / steps;
  mine.kernels = std::max(0.0, mine.kernels - mine.barriers);
  mine.collectives = waits.collective_seconds / steps;
  mine.waiting = waits.peer_seconds / steps;
  mine.barrier_count = double(waits.barriers) / steps;
  mine.collective_count = double(waits.collectives) / steps;
  mine.bytes_sent = double(waits.bytes_sent) / steps;
  for (const int64_t count : statistics.fallback) mine.fallback += double(count) / steps;
  return gather_values(communicator, "profile", mine);
}

nlohmann::json to_json(const RankProfile& rank) {
  return {{"step_ms", rank.step * 1e3},         {"kernels_ms", rank.kernels * 1e3},
          {"compute_ms", rank.compute() * 1e3}, {"barriers_ms", rank.barriers * 1e3},
          {"barriers", rank.barrier_count},     {"collectives_ms", rank.collectives * 1e3},
          {"waiting_ms", rank.waiting * 1e3},   {"collectives", rank.collective_count},
          {"bytes_sent", rank.bytes_sent},      {"fallback", rank.fallback}};
}

void print(const std::vector<RankProfile>& ranks) {
  for (size_t i = 0; i < ranks.size(); ++i) {
    const RankProfile& rank = ranks[i];
    std::printf(
        "  rank %zu: %.3f ms a step, %.1f%% inside kernels; %.0f barriers, %.3f ms waiting there; %.0f collectives, "
        "%.3f ms, %.3f of them waiting for another rank\n",
        i, rank.step * 1e3, 100 * rank.kernels / rank.step, rank.barrier_count, rank.barriers * 1e3,
        rank.collective_count, rank.collectives * 1e3, rank.waiting * 1e3);
  }
}

}  // namespace pleat
