// Decode and prefill speed, phase by phase.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "launcher/bench_steps.h"

namespace pleat {
namespace {

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
  for (int phase = 0; phase < EngineStatistics::phases && m.by_phase; ++phase) {
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
  for (int phase = 0; phase < EngineStatistics::phases && m.by_phase; ++phase)
    json["phases"][phase_name(phase)] = {{"ms", m.phase_seconds[phase] * 1e3}, {"bytes", m.phase_bytes[phase]}};
  for (const RankProfile& rank : m.profile) json["ranks"].push_back(to_json(rank));
  return json;
}

// On rank 0 printed.
void decode_together(Communicator& communicator, const BenchOptions& options, Subjects& subjects, int batch,
                     int64_t& step) {
  const std::vector<Measurement> results = measure_decoding(communicator, options, subjects, batch, step);
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
    for (int phase = 0; phase < EngineStatistics::phases && m.by_phase; ++phase)
      json["phases"][phase_name(phase)] = {{"ms", m.phase_seconds[phase] * 1e3}};
    std::printf("%s\n", json.dump().c_str());
    return;
  }
  std::printf("%s\n%s: prefill of %d tokens: %.1f ms, %.1f tok/s, %.1f GFLOP/s in products\n", shape.c_str(),
              subject.name.c_str(), options.tokens, m.seconds * 1e3, options.tokens / m.seconds, flops / 1e9);
  for (int phase = 0; phase < EngineStatistics::phases && m.by_phase; ++phase) {
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
    if (subject.folded && subjects.all.size() > 1) continue;  // prompts run densely
    std::vector<double> times;
    for (int round = -1; round < kRounds; ++round) {
      if (round == 0) subject.engine->reset_statistics();
      const StepPlan plan = plan_of(options, round + 1, 0, options.tokens, 1, false, true);
      const auto start = Clock::now();
      subject.engine->step(plan);
      if (round >= 0) times.push_back(seconds_since(start));
    }
    Measurement m{};
    m.seconds = median(times);
    m.by_phase = options.common.device != "cuda";
    const EngineStatistics& statistics = subject.engine->statistics();
    for (double time : times) m.mean_seconds += time / double(times.size());
    for (int phase = 0; phase < EngineStatistics::phases; ++phase)
      m.phase_seconds[phase] = statistics.seconds[phase] / double(statistics.steps);
    if (communicator.rank() == 0) print_prefill(options, subjects.shape, subject, m);
  }
  return 0;
}

}  // namespace pleat
