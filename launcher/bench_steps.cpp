#include "launcher/bench_steps.h"

#include <algorithm>

#include "kernels/attention.h"
#include "launcher/together.h"

namespace pleat {
namespace {

void summarise(Communicator& communicator, const Subject& subject, const std::vector<double>& times, Measurement& m) {
  const EngineStatistics& mine = subject.engine->statistics();
  struct Share {
    double bytes[EngineStatistics::phases];
    double read, dense, fallback;
  } share{};
  const double steps = double(mine.steps);
  const PhaseBytes elsewhere = subject.engine->executor_bytes();
  for (int phase = 0; phase < EngineStatistics::phases; ++phase)
    share.bytes[phase] = double(mine.bytes[phase]) / steps + double(elsewhere[size_t(phase)]);
  share.read = double(mine.ffn_bytes_read);
  share.dense = double(mine.ffn_bytes_dense);
  for (int64_t count : mine.fallback) share.fallback += double(count);
  const std::vector<Share> all = gather_values(communicator, "statistics", share);
  if (communicator.rank() != 0) return;
  double read = 0, dense = 0, fallback = 0, most = 0;
  for (const Share& part : all) {
    for (int phase = 0; phase < EngineStatistics::phases; ++phase) m.phase_bytes[phase] += part.bytes[phase];
    read += part.read;
    dense += part.dense;
    fallback += part.fallback;
    most = std::max(most, part.fallback);
  }
  for (int phase = 0; phase < EngineStatistics::phases; ++phase) {
    m.phase_seconds[phase] = mine.seconds[phase] / steps;
    m.bytes += m.phase_bytes[phase];
  }
  m.seconds = median(times);
  for (double time : times) m.mean_seconds += time / double(times.size());
  if (dense == 0) return;
  const Blueprint& blueprint = subject.engine->blueprint();
  m.counted = true;
  m.reduction = 1 - read / dense;
  m.fallback = fallback / double(std::max<int64_t>(1, mine.folded_rows)) / double(blueprint.layers * blueprint.neurons);
  m.imbalance = most * double(all.size()) / std::max(1.0, fallback);
}

}  // namespace

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

StepPlan plan_of(const BenchOptions& options, int64_t step, int position, int count, int batch, bool folded,
                 bool prompt_end) {
  StepPlan plan;
  plan.step = step;
  plan.logits = LogitsMode::argmax;
  const int pages_each = (options.context + options.tokens + 64 + kPageTokens - 1) / kPageTokens;
  for (int sequence = 0; sequence < batch; ++sequence) {
    for (int i = 0; i < count; ++i)
      plan.rows.push_back({(7 * sequence + 31 * (position + i)) % 4096, position + i, sequence, folded, i + 1 == count,
                           prompt_end && i + 1 == count});
    plan.slots.push_back(sequence);
    std::vector<int32_t>& pages = plan.page_tables.emplace_back();
    for (int page = 0; page * kPageTokens < position + count; ++page) pages.push_back(sequence * pages_each + page);
  }
  return plan;
}

std::vector<Measurement> measure_decoding(Communicator& communicator, const BenchOptions& options, Subjects& subjects,
                                          int batch, int64_t& step) {
  constexpr int kRounds = 4, kWarmup = 2;
  std::vector<std::vector<double>> times(subjects.all.size());
  std::vector<double> bandwidth;
  const bool on_device = options.common.device == "cuda";
  const int tokens = std::max(1, options.tokens / kRounds);
  for (int round = 0; round < kRounds; ++round) {
    bandwidth.push_back(total_bandwidth(communicator, *subjects.context, on_device));
    for (size_t i = 0; i < subjects.all.size(); ++i) {
      Subject& subject = subjects.all[i];
      for (int token = -(round == 0 ? kWarmup : 0); token < tokens; ++token) {
        if (token == 0 && round == 0) subject.engine->reset_statistics();
        // Generated tokens, of a dense model too.
        const StepPlan plan = plan_of(options, ++step, options.context + kWarmup + round * tokens + token, 1, batch,
                                      true, round == 0 && token == -kWarmup);
        const auto start = Clock::now();
        subject.engine->step(plan);
        if (token >= 0) times[i].push_back(seconds_since(start));
      }
    }
  }
  std::vector<Measurement> results(subjects.all.size());
  for (size_t i = 0; i < subjects.all.size(); ++i) {
    results[i].bandwidth = median(bandwidth);
    results[i].on_device = on_device;
    results[i].by_phase = !on_device || options.profile;
    summarise(communicator, subjects.all[i], times[i], results[i]);
    if (options.profile) results[i].profile = step_profile(communicator, subjects.all[i].engine->statistics());
  }
  return results;
}

}  // namespace pleat
