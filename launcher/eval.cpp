#include <algorithm>
#include <iostream>
#include <limits>
#include <memory>
#include <optional>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "core/checkpoint/file.h"
#include "core/engine/scoring.h"
#include "core/text/tokenizer.h"
#include "launcher/command.h"
#include "launcher/eval_loop.h"
#include "launcher/eval_task.h"
#include "launcher/interrupt.h"
#include "launcher/model_folder.h"
#include "launcher/npy.h"
#include "launcher/preflight.h"
#include "launcher/progress.h"
#include "launcher/scores.h"
#include "launcher/together.h"

namespace pleat {
namespace {

struct EvalOptions {
  CommonOptions common;
  std::string model, against;
  bool dense = false;
  std::string text, ids, logits;
  TaskOptions task;
  ScoringOptions scoring{512, 0, 0};
};

std::vector<int32_t> read_ids(const std::string& path) {
  const auto parsed = nlohmann::json::parse(read_whole(path), nullptr, false);
  PLEAT_REQUIRE(parsed.is_array() && !parsed.empty(), "'", path, "' is not a JSON array of token ids");
  std::vector<int32_t> ids;
  for (const auto& id : parsed) {
    PLEAT_REQUIRE(id.is_number_integer() && id >= 0 && id <= std::numeric_limits<int32_t>::max(), "'", path,
                  "' is not a JSON array of token ids");
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

struct EvalTokens {
  std::vector<int32_t> tokens;   // of the text, or the ids
  std::vector<int32_t> leading;  // in front of each of a text's windows, as in front of a prompt
};

EvalTokens tokens_of(const EvalOptions& options) {
  EvalTokens out;
  if (options.ids.empty()) {
    const Tokenizer tokenizer = Tokenizer::open(options.model);
    out = {tokenizer.encode(read_whole(options.text)), tokenizer.leading_special()};
  } else {
    out.tokens = read_ids(options.ids);
  }
  if (options.scoring.max_tokens > 0 && int64_t(out.tokens.size()) > options.scoring.max_tokens)
    out.tokens.resize(size_t(options.scoring.max_tokens));
  PLEAT_REQUIRE(!options.ids.empty() || out.tokens.size() >= 2, "'", options.text, "' has fewer than 2 tokens");
  return out;
}

void report(const EvalOptions& options, const Scores& scores) {
  const double tokens = double(std::max<int64_t>(1, scores.tokens));
  if (options.common.json) {
    nlohmann::ordered_json out = {{"model", options.model},
                                  {"tokens", scores.tokens},
                                  {"mean_nll", scores.mean_nll()},
                                  {"perplexity", scores.perplexity()}};
    if (!options.against.empty())
      out.update({{"against", options.against},
                  {"kl", scores.divergence / tokens},
                  {"top1_agreement", double(scores.agreements) / tokens}});
    std::cout << out.dump() << std::endl;
    return;
  }
  std::printf("tokens scored    %lld\nmean NLL         %.6f\nperplexity       %.4f\n", (long long)scores.tokens,
              scores.mean_nll(), scores.perplexity());
  if (!options.against.empty())
    std::printf("KL               %.6f nats a token, of %s from this model\ntop-1 agreement  %.4f\n",
                scores.divergence / tokens, options.against.c_str(), double(scores.agreements) / tokens);
}

// Rank 0 scores a text.
Scores score_text(const EvalOptions& options, EvalLoop& loop, const EvalTokens& text, const InterruptGuard& interrupt) {
  const std::vector<int32_t>&tokens = text.tokens, &leading = text.leading;
  Scores scores;
  Progress progress("eval", int64_t(tokens.size()), options.common.quiet);
  std::vector<std::vector<double>> reference;
  std::vector<double> row;
  std::vector<int32_t> window;
  const size_t room = size_t(options.scoring.window) - leading.size(), fewest = leading.empty() ? 2 : 1;
  for (size_t begin = 0; begin + fewest <= tokens.size() && !interrupt.signal(); begin += room) {
    const auto part = std::span(tokens).subspan(begin, std::min(room, tokens.size() - begin));
    window = leading;
    window.insert(window.end(), part.begin(), part.end());
    reference.clear();
    loop.window(
        window, [&](int64_t, std::span<const float> logits) { log_softmax(logits, reference.emplace_back()); },
        [&](int64_t index, std::span<const float> logits) {
          const size_t next = size_t(index) + 1;
          if (next < leading.size()) return;
          log_softmax(logits, row);
          scores.add(row, window[next]);
          if (!reference.empty()) scores.compare(reference[size_t(index)], row);
        });
    progress.update(int64_t(begin + part.size()), concat("perplexity ", scores.perplexity()));
  }
  progress.finish();
  return scores;
}

// Rank 0 writes the logits of all tokens. A token after the last one makes the scorer give the last one's logits too.
void write_logits(const EvalOptions& options, EvalLoop& loop, std::vector<int32_t> tokens, int64_t vocab) {
  NpyWriter out(file_in_the_making(options.logits), int64_t(tokens.size()), vocab);
  tokens.push_back(tokens.back());
  loop.window(tokens, {}, [&](int64_t, std::span<const float> logits) { out.write(logits); });
  out.finish();
  name_new_file(options.logits);
}

void check_window(const std::string& name, const LoadedModel& model, int64_t window) {
  PLEAT_REQUIRE(window <= model.blueprint.max_positions, "a window of ", window,
                " tokens is longer than the context of '", name, "', ", model.blueprint.max_positions);
  const int64_t room = model.engine->kv_pages() * kPageTokens;
  PLEAT_REQUIRE(window <= room, "a window of ", window, " tokens does not fit the cache of '", name, "', ", room);
}

int eval(const EvalOptions& options, Communicator& communicator) {
  const bool leads = communicator.rank() == 0;
  const bool dump = !options.ids.empty();
  EvalTokens text;
  agree(communicator, [&] {
    check_model(options.model, communicator.ranks(), reduction_kind(options.common));
    if (!options.against.empty()) check_model(options.against, communicator.ranks(), reduction_kind(options.common));
    check_new_file(options.logits);
    text = tokens_of(options);
  });
  if (!options.common.quiet) print_short_preflight(communicator);
  LoadedModel model =
      load_on_ranks({options.model, options.dense, cache_options(options.common)}, options.common, communicator);
  std::optional<LoadedModel> against;
  if (!options.against.empty()) against = load_on_ranks({options.against, false, {}}, options.common, communicator);
  ScoringOptions scoring = options.scoring;
  scoring.max_tokens = 0;  // they are cut already
  agree(communicator, [&] {
    const Blueprint& blueprint = model.blueprint;
    PLEAT_REQUIRE(!against || against->blueprint.vocab == blueprint.vocab, "'", options.model, "' and '",
                  options.against, "' have different vocabularies");
    PLEAT_REQUIRE(!dump || int64_t(text.tokens.size()) <= blueprint.max_positions, "'", options.ids, "' has ",
                  text.tokens.size(), " tokens; at most ", blueprint.max_positions, " fit the model's context");
    if (dump) scoring.window = int(text.tokens.size());
    PLEAT_REQUIRE(size_t(scoring.window) > text.leading.size(), "a window of ", scoring.window,
                  " tokens has no room behind the ", text.leading.size(), " that every text begins with");
    check_window(options.model, model, scoring.window);
    if (against) check_window(options.against, *against, scoring.window);
    if (dump) ++scoring.window;  // write_logits() asks for the last one's logits too
    for (const auto* part : {&text.leading, &text.tokens})
      for (const int32_t token : *part)
        PLEAT_REQUIRE(token >= 0 && token < blueprint.vocab, "token id ", token, " is outside the vocabulary of ",
                      blueprint.vocab);
  });

  const InterruptGuard interrupt;
  EvalLoop loop(communicator, *model.engine, against ? against->engine.get() : nullptr, scoring);
  Scores scores;
  if (!leads) loop.serve();
  share_failure(communicator, [&] {
    loop.lead([&] {
      dump ? write_logits(options, loop, text.tokens, model.blueprint.vocab)
           : void(scores = score_text(options, loop, text, interrupt));
    });
  });
  if (leads && !dump && !interrupt.signal()) report(options, scores);
  return leads && interrupt.signal() ? 128 + interrupt.signal() : 0;
}

}  // namespace

void add_eval(CLI::App& app, Command& command) {
  auto options = std::make_shared<EvalOptions>();
  CLI::App& sub =
      *app.add_subcommand("eval", "Perplexity of a text, distance from another model, or the logits themselves");
  sub.footer(
      "How far a folded model is from the dense one on a text:\n"
      "  pleat eval --model out/folded --against models/pleat-gpt2-9m --text heldout.txt\n"
      "Accuracy on a multiple-choice task:\n"
      "  pleat eval --model DIR --task arc_easy --data ARC-Easy-test.jsonl --limit 200\n"
      "Logits of given tokens as a NumPy file [tokens, vocabulary]:\n"
      "  pleat eval --model DIR --ids ids.json --logits logits.npy");
  sub.add_option("--model", options->model, "Model folder")->required();
  CLI::Option* text = sub.add_option("--text", options->text, "Text to score");
  sub.add_option("--window", options->scoring.window,
                 "Tokens; each window starts afresh, with the special tokens that the model expects in front")
      ->check(CLI::Range(2, 1 << 20))
      ->capture_default_str();
  sub.add_option("--max-tokens", options->scoring.max_tokens, "Score the first so many tokens; 0: all")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40))
      ->capture_default_str();
  sub.add_option("--exact-prefix", options->scoring.exact_prefix,
                 "First tokens of a window that are its prompt and run densely (the very first always)")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40))
      ->capture_default_str();
  sub.add_option("--against", options->against, "Reference model, with a cache of its own kind: KL and top-1 agreement")
      ->needs(text);
  sub.add_flag("--dense", options->dense, "Run a folded model densely");
  CLI::Option* ids = sub.add_option("--ids", options->ids, "JSON array of token ids")->excludes(text);
  CLI::Option* logits = sub.add_option("--logits", options->logits, "NumPy file to write")->needs(ids);
  ids->needs(logits);
  TaskOptions& task = options->task;
  CLI::Option* name =
      sub.add_option("--task", task.task, "Multiple-choice task, with the lm-evaluation-harness's prompts and scores")
          ->check(CLI::IsMember({"arc_easy", "arc_challenge", "piqa", "boolq", "winogrande"}))
          ->excludes(text)
          ->excludes(ids);
  name->needs(sub.add_option("--data", task.data, "The task's items, a JSON object a line")->needs(name));
  sub.add_option("--limit", task.limit, "Only the first so many items; 0: all")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40))
      ->needs(name);
  sub.add_option("--output", task.output, "File for a line an item: log-likelihoods and picks")->needs(name);
  add_common_flags(sub, options->common);
  add_rank_flags(sub, options->common);
  add_cache_flags(sub, options->common);
  sub.callback([options, &command] {
    if (options->text.empty() && options->ids.empty() && options->task.task.empty())
      throw CLI::RequiredError("--text, --ids or --task");
    options->task.model = options->model;
    options->task.dense = options->dense;
    command.run = [options] {
      if (!options->task.task.empty())
        return with_ranks(options->common, RunsOn::any_device, [&](Communicator& communicator) {
          return eval_task(options->task, options->common, communicator);
        });
      return with_ranks(options->common, RunsOn::any_device,
                        [&](Communicator& communicator) { return eval(*options, communicator); });
    };
  });
}

}  // namespace pleat
