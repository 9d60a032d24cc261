#pragma once
// What a run cost, over all ranks.
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/engine/engine.h"

namespace pleat {

struct RankCost {
  int64_t bytes_read = 0;    // from the checkpoint
  int64_t weight_bytes = 0;  // held
  int64_t ffn_bytes_read = 0, ffn_bytes_dense = 0;
  int64_t steps = 0;
  int64_t rows = 0, folded_rows = 0;
  double seconds[EngineStatistics::phases] = {};
  int64_t bytes[EngineStatistics::phases] = {};
};

// Collective. Costs in rank order on rank 0, empty on the others.
std::vector<RankCost> gather_costs(Communicator& communicator, const LoadedModel& model);

struct RunSummary {
  int64_t requests = 0, errors = 0, skipped = 0;
  int64_t prompt_tokens = 0, tokens = 0;  // tokens: generated, or scored
  double seconds = 0;
  std::vector<RankCost> ranks;
};

// Share of the FFN weight bytes that the folded rows did not read, below 0 where they read more than dense ones; none
// where nothing ran folded.
std::optional<double> share_not_read(const std::vector<RankCost>& ranks);

nlohmann::ordered_json to_json(const RunSummary& summary);
std::string to_text(const RunSummary& summary);

}  // namespace pleat
