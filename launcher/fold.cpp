#include "core/fold/fold.h"

#include <iostream>
#include <memory>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "launcher/bootstrap.h"
#include "launcher/command.h"
#include "launcher/progress.h"
#include "launcher/together.h"

namespace pleat {
namespace {

struct FoldCommandOptions {
  CommonOptions common;
  FoldOptions fold;
  std::string format = "int8", select;
};

FoldReport fold_with_progress(const FoldCommandOptions& options) {
  FoldOptions fold = options.fold;
  fold.fold_format = weight_format_named(options.format);
  if (!options.select.empty()) fold.selection = selection_named(options.select);
  fold.threads = options.common.threads > 0 ? options.common.threads : default_threads();
  fold.oversubscribed = oversubscribed();
  StagedProgress progress("fold: ", options.common.quiet);
  FoldReport report =
      fold_model(fold, [&](const std::string& stage, double fraction) { progress.update(stage, fraction); });
  progress.finish();
  return report;
}

int fold(const FoldCommandOptions& options, Communicator& communicator) {
  agree(communicator, [&] {
    PLEAT_REQUIRE(communicator.ranks() == 1, "'fold' runs as one process; start it without mpirun");
    const FoldReport report = fold_with_progress(options);
    if (options.common.json) {
      std::cout << to_json(report).dump() << std::endl;
    } else {
      std::cout << to_text(report) << std::flush;
    }
  });
  return 0;
}

}  // namespace

void add_fold(CLI::App& app, Command& command) {
  auto options = std::make_shared<FoldCommandOptions>();
  FoldOptions& fold_options = options->fold;
  CLI::App& sub =
      *app.add_subcommand("fold", "Fold a model's feed-forward networks, so that a token reads less of them");
  sub.footer(
      "A folded copy of the model that reads a quarter of the FFN weights, with a report beside it:\n"
      "  pleat fold --model models/pleat-gpt2-9m --text examples/calibration.txt --out out/folded --reduction 0.75");
  sub.add_option("--model", fold_options.model, "Model folder")->required();
  sub.add_option("--text", fold_options.text, "Calibration text, like what the model will write")->required();
  sub.add_option("--out", fold_options.out, "Folder to write")->required();
  sub.add_option("--reduction", fold_options.reduction, "Share of FFN weight bytes no longer read for a token")
      ->check(CLI::Range(0.0, 1.0))
      ->default_str("0.8, by the gate 0.4, by gated predictors 0.5");
  sub.add_option("--select", options->select,
                 "Who is computed exactly. Plain FFNs: neurons predicted outside their range. Gated FFNs: those whose "
                 "exact gate is far from the fold's, or those predicted so from low-bit copies of gate and up")
      ->check(CLI::IsMember({"range", "gate", "predictor"}))
      ->default_str("range, with gated FFNs predictor");
  sub.add_option("--predictor-bits", fold_options.predictor_bits, "Bits of the predictor's weights")
      ->check(CLI::Range(1, 3))
      ->capture_default_str();
  sub.add_option("--fold-format", options->format, "How the folded matrix is stored")
      ->check(CLI::IsMember({"int8", "bf16"}))
      ->capture_default_str();
  sub.add_option("--max-tokens", fold_options.max_tokens, "Calibration tokens, spread over the text; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  sub.add_option("--evaluate", fold_options.evaluation_text, "Held-out text to measure the quality on, for the report");
  add_common_flags(sub, options->common);
  sub.callback([options, &command] {
    command.run = [options] {
      return with_ranks(options->common, [&](Communicator& communicator) { return fold(*options, communicator); });
    };
  });
}

}  // namespace pleat
