#include "launcher/summary.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "launcher/together.h"

namespace pleat {
namespace {

using nlohmann::ordered_json;

constexpr std::array<const char*, EngineStatistics::phases> kPhaseNames = {
    "attention", "dense_ffn", "fold", "predictor", "fixup", "collective", "head", "other"};

// Mean over the ranks of the time in each phase, as shares of the whole.
std::array<double, EngineStatistics::phases> phase_shares(const std::vector<RankCost>& ranks) {
  std::array<double, EngineStatistics::phases> shares = {};
  double total = 0;
  for (const RankCost& rank : ranks)
    for (size_t phase = 0; phase < shares.size(); ++phase) {
      shares[phase] += rank.seconds[phase];
      total += rank.seconds[phase];
    }
  for (double& share : shares) share = total > 0 ? share / total : 0;
  return shares;
}

std::string format(const char* pattern, double value) {
  char text[64];
  std::snprintf(text, sizeof text, pattern, value);
  return text;
}

std::string megabytes(int64_t bytes) { return format("%.1f", double(bytes) / 1e6); }

double per_second(const RunSummary& summary) {
  return summary.seconds > 0 ? double(summary.tokens) / summary.seconds : 0;
}

}  // namespace

std::vector<RankCost> gather_costs(Communicator& communicator, const LoadedModel& model) {
  const EngineStatistics& statistics = model.engine->statistics();
  RankCost mine;
  mine.bytes_read = model.bytes_read;
  mine.weight_bytes = model.weight_bytes;
  mine.ffn_bytes_read = statistics.ffn_bytes_read;
  mine.ffn_bytes_dense = statistics.ffn_bytes_dense;
  mine.steps = statistics.steps;
  mine.rows = statistics.rows;
  mine.folded_rows = statistics.folded_rows;
  std::copy(std::begin(statistics.seconds), std::end(statistics.seconds), mine.seconds);
  std::copy(std::begin(statistics.bytes), std::end(statistics.bytes), mine.bytes);
  return gather_values(communicator, "summary", mine);
}

std::optional<double> share_not_read(const std::vector<RankCost>& ranks) {
  int64_t read = 0, dense = 0;
  for (const RankCost& rank : ranks) {
    read += rank.ffn_bytes_read;
    dense += rank.ffn_bytes_dense;
  }
  if (dense == 0) return std::nullopt;
  return 1 - double(read) / double(dense);
}

ordered_json to_json(const RunSummary& summary) {
  ordered_json out = {{"object", "pleat.summary"},
                      {"requests", summary.requests},
                      {"errors", summary.errors},
                      {"skipped", summary.skipped},
                      {"prompt_tokens", summary.prompt_tokens},
                      {"tokens", summary.tokens},
                      {"seconds", summary.seconds},
                      {"tokens_per_second", per_second(summary)},
                      {"ranks", summary.ranks.size()}};
  const std::optional<double> not_read = share_not_read(summary.ranks);
  out["ffn_bytes_not_read"] = not_read ? ordered_json(*not_read) : ordered_json(nullptr);
  const auto shares = phase_shares(summary.ranks);
  for (size_t phase = 0; phase < shares.size(); ++phase) out["time_share"][kPhaseNames[phase]] = shares[phase];
  out["checkpoint_bytes_read"] = ordered_json::array();
  out["weight_bytes"] = ordered_json::array();
  for (const RankCost& rank : summary.ranks) {
    out["checkpoint_bytes_read"].push_back(rank.bytes_read);
    out["weight_bytes"].push_back(rank.weight_bytes);
  }
  return out;
}

std::string to_text(const RunSummary& summary) {
  std::string text = concat(summary.requests, " requests, ", summary.tokens, " tokens in ",
                            format("%.2f", summary.seconds), " s: ", format("%.1f", per_second(summary)), " tok/s");
  if (summary.errors > 0) text += concat(", ", summary.errors, " error records");
  if (summary.skipped > 0) text += concat(", ", summary.skipped, " done before");
  text += "\n";
  if (const std::optional<double> not_read = share_not_read(summary.ranks))
    text += concat("FFN weight bytes no longer read: ", format("%.1f%%", 100 * *not_read), "\n");
  text += "read from the checkpoint, MB a rank:";
  for (const RankCost& rank : summary.ranks) text += concat(' ', megabytes(rank.bytes_read));
  text += "\ntime:";
  const auto shares = phase_shares(summary.ranks);
  for (size_t phase = 0; phase < shares.size(); ++phase)
    if (shares[phase] >= 0.0005) text += concat(" ", kPhaseNames[phase], format(" %.1f%%", 100 * shares[phase]));
  return text + "\n";
}

}  // namespace pleat
