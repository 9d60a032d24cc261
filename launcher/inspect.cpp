#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "core/checkpoint/checkpoint.h"
#include "core/engine/shard_table.h"
#include "core/fold/budget_table.h"
#include "core/fold/recipe_bytes.h"
#include "launcher/command.h"
#include "launcher/model_folder.h"
#include "launcher/together.h"

namespace pleat {
namespace {

using nlohmann::ordered_json;

struct InspectOptions {
  CommonOptions common;
  std::string model;
  int ranks = 1;
  bool budgets = false;
};

std::string_view name_of(PositionKind kind) {
  static constexpr std::string_view names[] = {"learned", "rotary", "alibi", "none"};
  return names[size_t(kind)];
}

// The window of the layers that have one, and in how many; "none" where all layers see everything.
std::string windows(const Blueprint& blueprint) {
  int64_t layers = 0, window = 0;
  for (const LayerAttention& layer : blueprint.attention)
    if (layer.window > 0) ++layers, window = layer.window;
  return layers > 0 ? concat(window, " tokens in ", layers, " layers") : "none";
}

// How many matrices are held in which low-bit format.
ordered_json quantised_counts(const Blueprint& blueprint) {
  ordered_json out = ordered_json::object();
  for (const auto& [name, format] : blueprint.quantised) {
    const std::string key(name_of(format));
    out[key] = out.value(key, 0) + 1;
  }
  return out;
}

// How many layers select how.
ordered_json selection_counts(const Blueprint& blueprint) {
  ordered_json out = ordered_json::object();
  for (const LayerFoldSpec& layer : blueprint.fold->layers) {
    const std::string key = std::string(name_of(layer.selection)) + (layer.cuts_inputs ? ", inputs cut" : "");
    out[key] = out.value(key, 0) + 1;
  }
  return out;
}

ordered_json blueprint_json(const Blueprint& blueprint) {
  ordered_json out = {{"family", blueprint.family},
                      {"layers", blueprint.layers},
                      {"hidden", blueprint.hidden},
                      {"heads", blueprint.heads},
                      {"kv_heads", blueprint.kv_heads},
                      {"head_size", blueprint.head_size},
                      {"neurons", blueprint.neurons},
                      {"vocab", blueprint.vocab},
                      {"max_positions", blueprint.max_positions},
                      {"positions", name_of(blueprint.positions)},
                      {"window", windows(blueprint)},
                      {"norm", blueprint.norm == NormKind::layer_norm ? "layer_norm" : "rms_norm"},
                      {"activation", name_of(blueprint.activation)},
                      {"gated", blueprint.gated},
                      {"parallel_residual", blueprint.parallel_residual},
                      {"tied_head", blueprint.tied_head},
                      {"folded", blueprint.fold.has_value()}};
  if (!blueprint.quantised.empty()) out["quantised"] = quantised_counts(blueprint);
  if (blueprint.fold) {
    out["reduction"] = blueprint.fold->reduction;
    out["selections"] = selection_counts(blueprint);
  }
  return out;
}

ordered_json range_json(const Range& range) { return ordered_json::array({range.begin, range.end}); }

ordered_json share_json(const RankShare& share) {
  return {{"heads", range_json(share.heads)},
          {"neurons", range_json(share.neurons)},
          {"fold_inputs", range_json(share.fold_inputs)},
          {"vocab", range_json(share.vocab)},
          {"bytes_stored", share.bytes_stored},
          {"bytes_read_per_token", share.bytes_read}};
}

// What fold_model() left beside the weights; null where there is nothing.
ordered_json fold_report(const std::string& folder) {
  std::ifstream in(folder + "/fold_report.json");
  return in ? ordered_json::parse(in, nullptr, false) : ordered_json();
}

// Of the search whose measurements lie beside the weights.
std::vector<BudgetRow> budgets(const std::string& folder, const Blueprint& blueprint) {
  const RecipeSearch search = RecipeSearch::read(folder + "/options.json", blueprint);
  return budget_table(search, dense_ffn_bytes(blueprint));
}

std::string text_of(const Range& range) { return concat(range.begin, "..", range.end); }

void print_tables(const ordered_json& blueprint, const ShardPlan& plan, const std::vector<RankShare>& shares) {
  for (const auto& [name, value] : blueprint.items())
    std::printf("%-18s %s\n", name.c_str(),
                value.is_string() ? value.get<std::string>().c_str() : value.dump().c_str());
  std::printf("\n%-5s %-10s %-14s %-12s %-14s %12s %18s\n", "rank", "heads", "neurons", "fold inputs", "vocabulary",
              "MB stored", "MB read per token");
  for (size_t rank = 0; rank < shares.size(); ++rank) {
    const RankShare& share = shares[rank];
    std::printf("%-5zu %-10s %-14s %-12s %-14s %12.2f %18.2f\n", rank, text_of(share.heads).c_str(),
                text_of(share.neurons).c_str(), text_of(share.fold_inputs).c_str(), text_of(share.vocab).c_str(),
                double(share.bytes_stored) / 1e6, double(share.bytes_read) / 1e6);
  }
  for (const std::string& note : plan.notes()) std::printf("%s\n", note.c_str());
}

void inspect(const InspectOptions& options) {
  check_model(options.model, options.ranks, Reduction::invariant);
  const Blueprint blueprint = read_blueprint(Checkpoint::open(options.model));
  const ShardPlan plan(sizes_of(blueprint), options.ranks, Reduction::invariant);
  std::vector<RankShare> shares;
  shares.reserve(size_t(options.ranks));
  for (int rank = 0; rank < options.ranks; ++rank)
    shares.push_back(share_of(blueprint, plan, rank, weight_format_named(options.common.dtype)));
  const ordered_json described = blueprint_json(blueprint);
  const ordered_json report = fold_report(options.model);
  const std::vector<BudgetRow> table = options.budgets ? budgets(options.model, blueprint) : std::vector<BudgetRow>();
  if (options.common.json) {
    ordered_json out = {{"model", options.model}, {"blueprint", described}, {"ranks", ordered_json::array()}};
    for (const RankShare& share : shares) out["ranks"].push_back(share_json(share));
    out["notes"] = plan.notes();
    out["fold_report"] = report.is_discarded() ? ordered_json() : report;
    if (options.budgets) out["budgets"] = to_json(table);
    std::cout << out.dump() << std::endl;
    return;
  }
  print_tables(described, plan, shares);
  if (options.budgets) std::printf("\nunder other budgets (pleat fold --options)\n%s", to_text(table).c_str());
  if (!report.is_object()) return;
  std::printf("\nfold report\n");
  for (const auto& [name, value] : report.items())
    if (value.is_number() || value.is_string())
      std::printf("%-24s %s\n", name.c_str(),
                  value.is_string() ? value.get<std::string>().c_str() : value.dump().c_str());
  if (const auto numbers = advice_numbers(report)) std::printf("\nwhen to fold\n%s", advice(*numbers).c_str());
}

}  // namespace

void add_inspect(CLI::App& app, Command& command) {
  auto options = std::make_shared<InspectOptions>();
  CLI::App& sub =
      *app.add_subcommand("inspect", "What a model folder holds, and what each of R ranks would hold of it");
  sub.footer("Reads headers only:\n  pleat inspect --model models/pleat-gpt2-9m --ranks 3");
  sub.add_option("--model", options->model, "Model folder")->required();
  sub.add_option("--ranks", options->ranks, "Ranks to plan for")->check(CLI::Range(1, 4096))->capture_default_str();
  sub.add_flag("--budgets", options->budgets,
               "Of a folder that pleat fold --budget wrote: what its search gives under other budgets");
  add_common_flags(sub, options->common);
  sub.callback([options, &command] {
    command.run = [options] {
      return with_ranks(options->common, RunsOn::cpu, [&](Communicator& communicator) {
        agree(communicator, [&] { inspect(*options); });
        return 0;
      });
    };
  });
}

}  // namespace pleat
