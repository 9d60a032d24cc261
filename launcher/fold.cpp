#include "core/fold/fold.h"

#include <memory>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "launcher/bootstrap.h"
#include "launcher/command.h"
#include "launcher/staged_command.h"
#include "launcher/together.h"

namespace pleat {
namespace {

struct FoldCommandOptions {
  CommonOptions common;
  FoldOptions fold;
  std::string format = "int8", select, rows = "bf16", down, budget;
  bool no_fold = false;
};

int fold(const FoldCommandOptions& options, Communicator& communicator) {
  FoldOptions fold = options.fold;
  return run_in_stages("fold", options.common, communicator, [&](const StageProgress& tell) {
    fold.fold_format = weight_format_named(options.format);
    if (!options.select.empty()) fold.selection = selection_named(options.select);
    fold.rows.gate = fold.rows.up = weight_format_named(options.rows);
    fold.rows.down = weight_format_named(options.down.empty() ? options.rows : options.down);
    fold.lines = !options.no_fold;
    if (!options.budget.empty()) fold.budget = budget_named(options.budget);
    fold.threads = options.common.threads > 0 ? options.common.threads : default_threads();
    fold.dtype = weight_format_named(options.common.dtype);
    fold.oversubscribed = oversubscribed();
    const FoldReport report = fold_model(fold, tell);
    return options.common.json ? to_json(report).dump() + "\n" : to_text(report);
  });
}

}  // namespace

void add_fold(CLI::App& app, Command& command) {
  auto options = std::make_shared<FoldCommandOptions>();
  FoldOptions& fold_options = options->fold;
  CLI::App& sub =
      *app.add_subcommand("fold", "Fold a model's feed-forward networks, so that a token reads less of them");
  sub.footer(
      "A folded copy of the model that reads a quarter of the FFN weights, with a report beside it:\n"
      "  pleat fold --model models/pleat-gpt2-9m --text examples/calibration.txt --out out/folded --reduction 0.75\n"
      "Over 4-bit rows, and the best mix of formats and folds under a budget:\n"
      "  pleat fold --model models/pleat-gpt2-9m --text examples/calibration.txt --out out/int4 --rows int4\n"
      "  pleat fold --model models/pleat-gpt2-9m --text examples/calibration.txt --out out/mixed --budget 20%");
  sub.add_option("--model", fold_options.model, "Model folder")->required();
  sub.add_option("--text", fold_options.text, "Calibration text, like what the model will write")->required();
  sub.add_option("--out", fold_options.out, "Folder to write")->required();
  CLI::Option* const reduction =
      sub.add_option("--reduction", fold_options.reduction, "Share of FFN weight bytes no longer read for a token")
          ->default_str("0.8 by range, 0.4 by the gate, else 0.5");
  CLI::Option* const select =
      sub.add_option(
             "--select", options->select,
             "Who is computed exactly. range (plain FFNs): neurons predicted outside their range; predictor "
             "(gated FFNs): those that low-bit copies of gate and up predict far from their line; gate (gated): "
             "those whose exact gate is far from it; threshold: large activations; prompt, core: each "
             "sequence's own, by its prompt; static: always the same, the others leave the folder; all: every one")
          ->check(CLI::IsMember({"range", "gate", "predictor", "threshold", "prompt", "core", "static", "all"}))
          ->default_str("range, with gated FFNs predictor");
  const auto formats =
      CLI::IsMember({"bf16", "int8", "int6", "int5", "int4", "int3", "int2", "planes4", "planes3", "planes2"});
  CLI::Option* const rows =
      sub.add_option("--rows", options->rows, "Format of the FFN matrices that exact neurons are computed from")
          ->check(formats)
          ->capture_default_str();
  CLI::Option* const down = sub.add_option("--down", options->down, "Format of the down matrix, the sensitive one")
                                ->check(formats)
                                ->default_str("as --rows");
  CLI::Option* const inputs =
      sub.add_option("--inputs", fold_options.inputs,
                     "Share of its inputs, the largest, that a token's gate and up (plain FFNs: W1) see; with --select "
                     "all, threshold (then TEAL) or static")
          ->check(number_between(0.0, 1.0))
          ->capture_default_str();
  CLI::Option* const no_fold =
      sub.add_flag("--no-fold", options->no_fold, "Leave out who is not exact, instead of following its line");
  CLI::Option* const budget =
      sub.add_option("--budget", options->budget,
                     "Instead of one recipe for all layers: the one with the least loss whose FFN bytes are this share "
                     "of dense bf16's (24%), every option of every layer measured");
  sub.add_option("--batch", fold_options.batch, "Rows of a step that the budget counts reads for")
      ->check(CLI::IsMember({1, 4, 16}))
      ->capture_default_str()
      ->needs(budget);
  sub.add_flag("--stored", fold_options.stored, "The budget counts stored bytes")->needs(budget);
  sub.add_option("--options", fold_options.options,
                 "The options.json of an earlier search on this model: search under another budget without measuring")
      ->needs(budget);
  CLI::Option* const recipe =
      sub.add_option("--recipe", fold_options.recipe, "Instead: a recipe.json of an earlier fold, edited or not");
  CLI::Option* const predictor_bits =
      sub.add_option("--predictor-bits", fold_options.predictor_bits, "Bits of the predictor's weights")
          ->check(CLI::Range(1, 3))
          ->capture_default_str();
  CLI::Option* const fold_format = sub.add_option("--fold-format", options->format, "How the folded matrix is stored")
                                       ->check(CLI::IsMember({"int8", "bf16"}))
                                       ->capture_default_str();
  budget->excludes(recipe);
  for (CLI::Option* const choice : {reduction, select, rows, down, inputs, no_fold, predictor_bits, fold_format})
    choice->excludes(budget)->excludes(recipe);
  sub.add_option("--max-tokens", fold_options.max_tokens, "Calibration tokens, spread over the text; 0: all")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40))
      ->capture_default_str();
  sub.add_option("--evaluate", fold_options.evaluation_text, "Held-out text to measure the quality on, for the report");
  add_common_flags(sub, options->common);
  sub.callback([options, &command] {
    command.run = [options] {
      return with_ranks(options->common, RunsOn::cpu,
                        [&](Communicator& communicator) { return fold(*options, communicator); });
    };
  });
}

}  // namespace pleat
