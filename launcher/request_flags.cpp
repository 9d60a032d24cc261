#include "launcher/request_flags.h"

#include <charconv>

#include <CLI/CLI.hpp>

namespace pleat {

void add_sampling_flags(CLI::App& app, SamplingOptions& sampling) {
  app.add_option("--max-tokens", sampling.max_tokens, "Longest text, in tokens")->capture_default_str();
  app.add_option("--temperature", sampling.temperature, "0 takes the best token always")->capture_default_str();
  app.add_option("--top-k", sampling.top_k, "Choose among the best K; 0: all")->capture_default_str();
  app.add_option("--top-p", sampling.top_p, "Choose among the best of this total probability")->capture_default_str();
  app.add_option("--min-p", sampling.min_p, "Choose among those with this share of the best's probability")
      ->capture_default_str();
  app.add_option("--repetition-penalty", sampling.repetition_penalty, "Above 1: tokens seen become less likely")
      ->capture_default_str();
  app.add_option("--seed", sampling.seed, "Of the random choices")
      ->check([](const std::string& text) {
        uint64_t seed = 0;
        const char* const end = text.data() + text.size();
        const auto [after, error] = std::from_chars(text.data(), end, seed);
        const bool plain = text == "0" || !text.starts_with('0');  // else it would be taken for octal
        return error == std::errc() && after == end && plain ? "" : "'" + text + "' is not a number from 0 to 2^64 - 1";
      })
      ->capture_default_str();
  app.add_option("--stop", sampling.stop, "End before this text; may be given several times")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--logprobs", sampling.logprobs, "Log probability of each token and of this many best")
      ->check(CLI::Range(0, 20));
  app.add_flag("--ignore-eos", sampling.ignore_eos, "Go on after the end-of-text token");
}

void add_scheduler_flags(CLI::App& app, SchedulerOptions& options) {
  app.add_option("--batch", options.max_batch, "Texts written together")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_option("--prefill-chunk", options.prefill_chunk, "Prompt tokens of one step")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  app.add_flag("--fold-prompt", options.fold_prompt, "Run prompts folded too; not where they choose the neurons");
}

EngineOptions engine_options(const CommonOptions& common, const SchedulerOptions& scheduler) {
  EngineOptions engine = cache_options(common);
  engine.max_sequences = scheduler.max_batch;
  engine.max_logit_rows = scheduler.max_batch;
  engine.max_rows = scheduler.prefill_chunk + scheduler.max_batch;
  return engine;
}

}  // namespace pleat
