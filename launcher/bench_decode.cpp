// Decode and prefill speed, phase by phase, beside the read bandwidth of the same minutes.
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "kernels/attention.h"
#include "launcher/bench.h"
#include "launcher/step_profile.h"
#include "launcher/together.h"

namespace pleat {
namespace {

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

// `batch` sequences, each with a run of pages of its own, `count` rows from `position` on. Their prompts end with the
// first measured or warming step.
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

struct Measurement {
  double seconds = 0;  // of the median step
  double mean_seconds = 0;
  double bytes = 0;                                // weight bytes a step, all ranks
  double phase_seconds[EngineStatistics::phases];  // a step, rank 0
  double phase_bytes[EngineStatistics::phases];    // a step, all ranks
  double bandwidth = 0;                            // bytes/s measured beside it
  bool on_device = false;                          // where phases are not told apart, and the bandwidth is a copy's
  bool counted = false;                            // the next three are
  double reduction = 0;                            // share of FFN bytes not read
  double fallback = 0;                             // share of neurons, per row
  double imbalance = 1;                            // fix-up rows, slowest rank / mean
  std::vector<RankProfile> profile;                // [ranks] where it was asked for
};

void summarise(Communicator& communicator, const Subject& subject, const std::vector<double>& times, Measurement& m) {
  const EngineStatistics& mine = subject.engine->statistics();
  struct Share {
    double bytes[EngineStatistics::phases];
    double read, dense, fallback, elsewhere;
  } share{};
  const double steps = double(mine.steps);
  for (int phase = 0; phase < EngineStatistics::phases; ++phase) share.bytes[phase] = double(mine.bytes[phase]) / steps;
  share.elsewhere = double(subject.engine->executor_bytes());
  share.read = double(mine.ffn_bytes_read);
  share.dense = double(mine.ffn_bytes_dense);
  for (int64_t count : mine.fallback) share.fallback += double(count);
  const std::vector<Share> all = gather_values(communicator, "statistics", share);
  if (communicator.rank() != 0) return;
  double read = 0, dense = 0, fallback = 0, most = 0;
  for (const Share& part : all) {
    for (int phase = 0; phase < EngineStatistics::phases; ++phase) m.phase_bytes[phase] += part.bytes[phase];
    m.bytes += part.elsewhere;
    m.on_device |= part.elsewhere > 0;
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

const char* phase_name(int phase) {
  static const char* const names[] = {"attention", "dense FFN",  "fold", "predictor",
                                      "fix-up",    "collective", "head", "other"};
  return names[phase];
}

void print(const Subject& subject, const Measurement& m, int batch) {
  std::printf(
      "%s: %.2f ms a step, %.2f tok/s, %.1f MB of weights a step, %.1f GB/s = %.0f%% of the %s bandwidth (%.1f "
      "GB/s)\n",
      subject.name.c_str(), m.seconds * 1e3, batch / m.seconds, m.bytes / 1e6, m.bytes / m.seconds / 1e9,
      100 * m.bytes / m.seconds / m.bandwidth, m.on_device ? "device's copy" : "read", m.bandwidth / 1e9);
  if (subject.folded && m.counted)
    std::printf(
        "  FFN bytes no longer read: %.1f%%; neurons computed exactly: %.2f%% a row; fix-up of the busiest rank / "
        "mean: %.2f\n",
        100 * m.reduction, 100 * m.fallback, m.imbalance);
  for (int phase = 0; phase < EngineStatistics::phases && !m.on_device; ++phase) {
    if (m.phase_seconds[phase] <= 0) continue;
    std::printf("  %-11s %9.3f ms %5.1f%%", phase_name(phase), m.phase_seconds[phase] * 1e3,
                100 * m.phase_seconds[phase] / m.mean_seconds);
    if (m.phase_bytes[phase] > 0)
      std::printf(" %9.1f MB %7.1f GB/s %4.0f%% of bandwidth", m.phase_bytes[phase] / 1e6,
                  m.phase_bytes[phase] / m.phase_seconds[phase] / 1e9,
                  100 * m.phase_bytes[phase] / m.phase_seconds[phase] / m.bandwidth);
    std::printf("\n");
  }
  print(m.profile);
}

nlohmann::json to_json(const Subject& subject, const Measurement& m, int batch) {
  nlohmann::json json{{"subject", subject.name},
                      {"ms_per_step", m.seconds * 1e3},
                      {"tokens_per_second", batch / m.seconds},
                      {"weight_bytes_per_step", m.bytes},
                      {"gb_per_second", m.bytes / m.seconds / 1e9},
                      {"read_bandwidth_gb_per_second", m.bandwidth / 1e9},
                      {"share_of_bandwidth", m.bytes / m.seconds / m.bandwidth}};
  if (subject.folded && m.counted) {
    json["reduction"] = m.reduction;
    json["fallback"] = m.fallback;
    json["fixup_imbalance"] = m.imbalance;
  }
  for (int phase = 0; phase < EngineStatistics::phases && !m.on_device; ++phase)
    json["phases"][phase_name(phase)] = {{"ms", m.phase_seconds[phase] * 1e3}, {"bytes", m.phase_bytes[phase]}};
  for (const RankProfile& rank : m.profile) json["ranks"].push_back(to_json(rank));
  return json;
}

// Dense and folded take turns, with a bandwidth reading between, so that a drifting machine changes all alike. On rank
// 0 printed.
void decode_together(Communicator& communicator, const BenchOptions& options, Subjects& subjects, int batch,
                     int64_t& step) {
  constexpr int kRounds = 4, kWarmup = 2;
  std::vector<std::vector<double>> times(subjects.all.size());
  std::vector<double> bandwidth;
  const int tokens = std::max(1, options.tokens / kRounds);
  for (int round = 0; round < kRounds; ++round) {
    bandwidth.push_back(total_bandwidth(communicator, *subjects.context, options.common.device == "cuda"));
    for (size_t i = 0; i < subjects.all.size(); ++i) {
      Subject& subject = subjects.all[i];
      for (int token = -(round == 0 ? kWarmup : 0); token < tokens; ++token) {
        if (token == 0 && round == 0) subject.engine->reset_statistics();
        const StepPlan plan = plan_of(options, ++step, options.context + kWarmup + round * tokens + token, 1, batch,
                                      subject.folded, round == 0 && token == -kWarmup);
        const auto start = Clock::now();
        subject.engine->step(plan);
        if (token >= 0) times[i].push_back(seconds_since(start));
      }
    }
  }
  std::vector<Measurement> results(subjects.all.size());
  for (size_t i = 0; i < subjects.all.size(); ++i) {
    results[i].bandwidth = median(bandwidth);
    summarise(communicator, subjects.all[i], times[i], results[i]);
    if (options.profile) results[i].profile = step_profile(communicator, subjects.all[i].engine->statistics());
  }
  if (communicator.rank() != 0) return;
  if (options.common.json) {
    for (size_t i = 0; i < results.size(); ++i) {
      nlohmann::json json = to_json(subjects.all[i], results[i], batch);
      json["shape"] = subjects.shape;
      json["batch"] = batch;
      std::printf("%s\n", json.dump().c_str());
    }
    return;
  }
  std::printf("%s; batch %d\n", subjects.shape.c_str(), batch);
  for (size_t i = 0; i < results.size(); ++i) print(subjects.all[i], results[i], batch);
  for (size_t i = 1; i < results.size(); ++i)
    std::printf("%s / dense speed: %.2fx end to end\n", subjects.all[i].name.c_str(),
                results[0].seconds / results[i].seconds);
}

void print_prefill(const BenchOptions& options, const std::string& shape, const Subject& subject,
                   const Measurement& m) {
  const Blueprint& b = subject.engine->blueprint();
  const double products = double(b.hidden) *
                          double((b.heads * 2 + b.kv_heads * 2) * b.head_size + (b.gated ? 3 : 2) * b.neurons) *
                          b.layers;
  const double flops = 2 * products * options.tokens / m.seconds;
  if (options.common.json) {
    nlohmann::json json{{"shape", shape},
                        {"subject", subject.name},
                        {"tokens", options.tokens},
                        {"seconds", m.seconds},
                        {"tokens_per_second", options.tokens / m.seconds},
                        {"gflop_per_second", flops / 1e9}};
    for (int phase = 0; phase < EngineStatistics::phases && !m.on_device; ++phase)
      json["phases"][phase_name(phase)] = {{"ms", m.phase_seconds[phase] * 1e3}};
    std::printf("%s\n", json.dump().c_str());
    return;
  }
  std::printf("%s\n%s: prefill of %d tokens: %.1f ms, %.1f tok/s, %.1f GFLOP/s in products\n", shape.c_str(),
              subject.name.c_str(), options.tokens, m.seconds * 1e3, options.tokens / m.seconds, flops / 1e9);
  for (int phase = 0; phase < EngineStatistics::phases && !m.on_device; ++phase) {
    if (m.phase_seconds[phase] > 0)
      std::printf("  %-11s %9.3f ms %5.1f%%\n", phase_name(phase), m.phase_seconds[phase] * 1e3,
                  100 * m.phase_seconds[phase] / m.mean_seconds);
  }
}

}  // namespace

int bench_decode(Communicator& communicator, const BenchOptions& options) {
  Subjects subjects = make_subjects(communicator, options);
  int64_t step = 0;
  for (int batch : options.batches) decode_together(communicator, options, subjects, batch, step);
  return 0;
}

int bench_prefill(Communicator& communicator, const BenchOptions& options) {
  constexpr int kRounds = 3;
  Subjects subjects = make_subjects(communicator, options);
  for (Subject& subject : subjects.all) {
    if (subject.folded) continue;  // prompts run densely
    std::vector<double> times;
    for (int round = -1; round < kRounds; ++round) {
      if (round == 0) subject.engine->reset_statistics();
      const StepPlan plan = plan_of(options, round + 1, 0, options.tokens, 1, false, true);
      const auto start = Clock::now();
      subject.engine->step(plan);
      if (round >= 0) times.push_back(seconds_since(start));
    }
    Measurement m{};
    summarise(communicator, subject, times, m);
    if (communicator.rank() == 0) print_prefill(options, subjects.shape, subject, m);
  }
  return 0;
}

}  // namespace pleat
