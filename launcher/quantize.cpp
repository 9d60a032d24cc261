#include "core/fold/quantize.h"

#include <memory>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "kernels/check.h"
#include "launcher/bootstrap.h"
#include "launcher/command.h"
#include "launcher/staged_command.h"
#include "launcher/together.h"

namespace pleat {
namespace {

struct QuantizeCommandOptions {
  CommonOptions common;
  QuantizeOptions quantize;
  std::string format = "int4", down, attention, head = "int8", scales = "column", budget;
};

int quantize(const QuantizeCommandOptions& options, Communicator& communicator) {
  QuantizeOptions quantize = options.quantize;
  return run_in_stages("quantize", options.common, communicator, [&](const StageProgress& tell) {
    PLEAT_REQUIRE((options.format == "planes") == !options.budget.empty(),
                  "--format planes and --budget need each other: planes by layer under a budget");
    if (!options.budget.empty()) quantize.budget = budget_named(options.budget);
    const std::string format = options.budget.empty() ? options.format : "planes4";
    quantize.gate_up = weight_format_named(format);
    if (!options.down.empty()) quantize.down = weight_format_named(options.down);
    quantize.attention = weight_format_named(options.attention.empty() ? format : options.attention);
    quantize.head = weight_format_named(options.head);
    PLEAT_REQUIRE(options.scales == "column" || has_planes(quantize.gate_up) ||
                      (quantize.down && has_planes(*quantize.down)) || has_planes(quantize.attention) ||
                      has_planes(quantize.head),
                  "--scales block is for planes, and none of the formats is one");
    quantize.scales = options.scales == "block" ? PlaneScales::block : PlaneScales::column;
    quantize.threads = options.common.threads > 0 ? options.common.threads : default_threads();
    quantize.dtype = weight_format_named(options.common.dtype);
    quantize.oversubscribed = oversubscribed();
    const QuantizeReport report = quantize_model(quantize, tell);
    return options.common.json ? to_json(report).dump() + "\n" : to_text(report);
  });
}

}  // namespace

void add_quantize(CLI::App& app, Command& command) {
  auto options = std::make_shared<QuantizeCommandOptions>();
  CLI::App& sub = *app.add_subcommand("quantize", "Hold a model's matrices in 2 to 8 bits a weight");
  sub.footer(
      "A copy of the model at 4 bits a weight, GPTQ on a calibration text, that generate, eval, serve and bench run:\n"
      "  pleat quantize --model models/pleat-gpt2-9m --text examples/calibration.txt --format int4 --out out/int4\n"
      "Of a folded model, attention and head: its FFN stays as 'pleat fold --rows' or '--budget' made it.");
  const auto formats =
      CLI::IsMember({"bf16", "int8", "int6", "int5", "int4", "int3", "int2", "planes4", "planes3", "planes2"});
  sub.add_option("--model", options->quantize.model, "Model folder or GGUF file")->required();
  sub.add_option("--out", options->quantize.out, "Folder to write")->required();
  sub.add_option("--text", options->quantize.text, "Calibration text for GPTQ")
      ->default_str("none: weights are rounded to nearest");
  sub.add_option("--format", options->format,
                 "Format of the FFN and the attention; bf16: as they are; planes: 2 to 4 by layer, see --budget")
      ->check(formats | CLI::IsMember({"planes"}))
      ->capture_default_str();
  sub.add_option("--down", options->down, "Format of the FFN's down matrix, the most sensitive one")
      ->check(formats)
      ->default_str("as --format");
  sub.add_option("--attention", options->attention, "Format of query, key, value and the attention's output")
      ->check(formats)
      ->default_str("as --format");
  sub.add_option("--head", options->head, "Format of the head (and of the token embedding, where they are one)")
      ->check(formats)
      ->capture_default_str();
  sub.add_option("--scales", options->scales, "Planes: a scale by input column (accuracy) or by 8 by 8 block (speed)")
      ->check(CLI::IsMember({"column", "block"}))
      ->capture_default_str();
  sub.add_option("--budget", options->budget,
                 "With --format planes: share of the FFN's bf16 bytes, e.g. 24%; planes go where they matter most");
  sub.add_option("--max-tokens", options->quantize.max_tokens, "Calibration tokens, spread over the text; 0: all")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40))
      ->capture_default_str();
  add_common_flags(sub, options->common);
  sub.callback([options, &command] {
    command.run = [options] {
      return with_ranks(options->common, RunsOn::cpu,
                        [&](Communicator& communicator) { return quantize(*options, communicator); });
    };
  });
}

}  // namespace pleat
