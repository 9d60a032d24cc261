#include "core/fold/report.h"

#include <algorithm>
#include <functional>
#include <map>

#include <nlohmann/json.hpp>

#include "core/fold/format_text.h"
#include "kernels/check.h"

namespace pleat {
namespace {

// "all layers range 9.7% bf16/bf16", or how many have which.
std::string recipe_text(const FoldReport& report) {
  std::map<std::string, int> counts;
  for (const LayerRecipe& recipe : report.recipe) ++counts[to_text(recipe, report.gated)];
  if (counts.size() == 1) return "all layers " + counts.begin()->first;
  std::string out;
  for (const auto& [name, count] : counts) out += (out.empty() ? "" : ", ") + concat(count, " x ", name);
  return out;
}

std::string budget_text(const BudgetReport& budget) {
  const auto line = [](const char* name, const RecipeLoss& loss) {
    return format_text("  %-28s %5.1f%%  KL predicted %.4f, measured %.4f\n", name, 100 * loss.bytes, loss.predicted,
                       loss.measured);
  };
  std::string out = format_text("budget %.1f%% of the FFN bytes, %s:\n", 100 * budget.asked,
                                budget.stored ? "stored" : format_text("read at batch %d", budget.batch).c_str());
  out += line("formats and folds", budget.mixed);
  if (budget.plain)
    out += line("formats alone", *budget.plain);
  else
    out += "  formats alone do not fit it\n";
  if (budget.chose_plain) out += "  the formats alone measured better and were taken\n";
  return out;
}

std::string row_text(const std::string& name, const LayerReport& r) {
  return format_text("%6s %7.2f %8.1f %8.2f %7.3f %7.3f %8.4f %8.4f %8.4f %7.1f %7.1f %7.1f %7.1f\n", name.c_str(),
                     r.weight, 100 * r.coverage, 100 * r.fallback, r.recall, r.precision, r.error, r.error_alone,
                     r.error_dropped, 100 * r.read[0] / r.dense, 100 * r.read[1] / r.dense, 100 * r.read[2] / r.dense,
                     100 * r.stored / r.dense);
}

nlohmann::json json_of(const LayerReport& r) {
  return {{"weight", r.weight},
          {"coverage", r.coverage},
          {"fallback", r.fallback},
          {"inputs", r.inputs},
          {"recall", r.recall},
          {"precision", r.precision},
          {"error", r.error},
          {"error_alone", r.error_alone},
          {"error_dropped", r.error_dropped},
          {"bytes_read", {{"1", r.read[0]}, {"4", r.read[1]}, {"16", r.read[2]}}},
          {"bytes_stored", r.stored},
          {"bytes_dense", r.dense}};
}

nlohmann::json json_of(const QualityReport& q) {
  return {{"perplexity", q.perplexity}, {"kl", q.kl}, {"agreement", q.agreement}};
}

double percent_over(double perplexity, double dense) { return 100 * (perplexity / dense - 1); }

}  // namespace

AdviceNumbers advice_numbers(const FoldReport& report) {
  AdviceNumbers out{{}, report.total.stored / report.total.dense, report.kl, report.plain, report.kl_is_fitted};
  for (size_t i = 0; i < out.read.size(); ++i) out.read[i] = report.total.read[i] / report.total.dense;
  return out;
}

std::optional<AdviceNumbers> advice_numbers(const nlohmann::json& report) {
  try {
    AdviceNumbers out;
    const nlohmann::json& total = report.at("total");
    const double dense = total.at("bytes_dense").get<double>();
    for (size_t i = 0; i < out.read.size(); ++i)
      out.read[i] = total.at("bytes_read").at(std::to_string(kReportBatches[i])).get<double>() / dense;
    out.stored = total.at("bytes_stored").get<double>() / dense;
    out.kl = report.at("kl").get<double>();
    out.kl_is_fitted = report.value("kl_is_fitted", false);
    for (const nlohmann::json& plain : report.at("plain"))
      out.plain.push_back(
          {plain.at("format").get<std::string>(), plain.at("bytes").get<double>(), plain.at("kl").get<double>()});
    return out;
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;  // a report of another version
  }
}

std::string advice(const AdviceNumbers& numbers) {
  std::string out = format_text(
      "reads %.1f%% of dense bf16's FFN bytes at batch 1, %.1f%% at 4, %.1f%% at 16; stores %.1f%%; "
      "KL %.4f nats a token\n",
      100 * numbers.read[0], 100 * numbers.read[1], 100 * numbers.read[2], 100 * numbers.stored, numbers.kl);
  if (numbers.kl_is_fitted) out += "(the text is too short to keep a part apart: KL is of what was fitted on)\n";
  for (const PlainPoint& plain : numbers.plain) {
    out += format_text("plain %s reads and stores %.1f%% at every batch; KL %.4f: ", plain.format.c_str(),
                       100 * plain.bytes, plain.kl);
    int up_to = 0;  // the largest batch at which this model reads less
    for (size_t i = 0; i < numbers.read.size(); ++i)
      if (numbers.read[i] < plain.bytes) up_to = kReportBatches[i];
    const bool closer = numbers.kl < plain.kl;
    const bool further = plain.kl < numbers.kl;
    const bool reads_more =
        std::any_of(numbers.read.begin(), numbers.read.end(), [&](double read) { return read > plain.bytes; });
    if (up_to > 0 && closer)
      out += format_text("this model is closer to dense and reads less up to batch %d", up_to);
    else if (up_to > 0)
      out += format_text("this model reads less up to batch %d%s", up_to, further ? " but is further from dense" : "");
    else if (closer)
      out += concat("this model is closer to dense", reads_more ? " but reads more" : "");
    else if (further || reads_more)
      out += concat("use that instead, it is ", reads_more ? "smaller" : "", reads_more && further ? " and " : "",
                    further ? "closer to dense" : "");
    else
      out += "this model is the same";
    out += "\n";
  }
  return out;
}

nlohmann::ordered_json recipe_json(const FoldReport& report) {
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (const LayerRecipe& recipe : report.recipe) layers.push_back(to_json(recipe, report.gated));
  return {{"layers", layers}};
}

std::string to_text(const FoldReport& report) {
  std::string out = format_text("%.1f%% of the FFN weight bytes are no longer read per token", 100 * report.reduction);
  if (report.asked > 0) out += format_text(" (asked: %.1f%%)", 100 * report.asked);
  out += "; " + recipe_text(report) + "\n";
  out += format_text("calibrated on %lld tokens, measured on %lld of them, in %.1f s\n",
                     static_cast<long long>(report.calibration_tokens), static_cast<long long>(report.sample_rows),
                     report.seconds);
  if (report.budget) out += budget_text(*report.budget);
  out += advice(advice_numbers(report)) + "\n";
  out += "                                                      relative squared error        bytes, % of dense bf16\n";
  out +=
      " layer  weight  cover %  exact %  recall   prec.   folded    alone  dropped  read,1  read,4 read,16  stored\n";
  const bool mixed =
      std::adjacent_find(report.recipe.begin(), report.recipe.end(), std::not_equal_to<>()) != report.recipe.end();
  for (size_t l = 0; l < report.layers.size(); ++l) {
    std::string row = row_text(std::to_string(l), report.layers[l]);
    if (mixed) row.insert(row.size() - 1, "  " + to_text(report.recipe[l], report.gated));
    out += row;
  }
  out += row_text("all", report.total);
  out +=
      "(weight: what an error of the layer costs the output; folded: with the exact neurons; alone: without; dropped: "
      "the exact\n"
      "neurons without the fold)\n";
  if (report.evaluation_tokens == 0) return out;
  out += format_text(
      "\nheld-out text, %lld tokens: perplexity dense %.3f, folded %.3f (%+.2f%%), exact neurons alone %.3f "
      "(%+.1f%%)\n",
      static_cast<long long>(report.evaluation_tokens), report.dense_perplexity, report.folded.perplexity,
      percent_over(report.folded.perplexity, report.dense_perplexity), report.dropped.perplexity,
      percent_over(report.dropped.perplexity, report.dense_perplexity));
  out += format_text("KL %.5f nats a token, %.1f%% of the best next tokens agree\n\n", report.folded.kl,
                     100 * report.folded.agreement);
  out += " reduction  bits  exact %  read,1  read,4 read,16  perplexity  vs dense       KL   agree\n";
  for (const CurvePoint& p : report.curve) {
    if (!p.reachable) {
      out += format_text("%9.1f%%  not reachable: C, B and the predictor alone are more\n", 100 * p.asked);
      continue;
    }
    out += format_text("%9.1f%% %5d %8.2f %7.1f %7.1f %7.1f %11.3f %8.2f%% %8.5f %6.1f%%\n", 100 * p.reduction,
                       p.predictor_bits, 100 * p.fallback, 100 * p.read[0], 100 * p.read[1], 100 * p.read[2],
                       p.quality.perplexity, percent_over(p.quality.perplexity, report.dense_perplexity), p.quality.kl,
                       100 * p.quality.agreement);
  }
  return out;
}

nlohmann::json to_json(const FoldReport& report) {
  nlohmann::json out = {{"reduction", report.reduction},     {"kl", report.kl},
                        {"recipe", recipe_text(report)},     {"calibration_tokens", report.calibration_tokens},
                        {"sample_rows", report.sample_rows}, {"seconds", report.seconds},
                        {"total", json_of(report.total)},    {"plain", nlohmann::json::array()},
                        {"layers", nlohmann::json::array()}};
  if (report.asked > 0) out["asked_reduction"] = report.asked;
  if (report.kl_is_fitted) out["kl_is_fitted"] = true;
  for (const PlainPoint& plain : report.plain)
    out["plain"].push_back({{"format", plain.format}, {"bytes", plain.bytes}, {"kl", plain.kl}});
  if (report.budget) {
    const auto loss = [](const RecipeLoss& l) {
      return nlohmann::json{{"bytes", l.bytes}, {"kl_predicted", l.predicted}, {"kl_measured", l.measured}};
    };
    const BudgetReport& budget = *report.budget;
    out["budget"] = {{"asked", budget.asked},
                     {"counts", budget.stored ? "stored" : concat("read at batch ", budget.batch)},
                     {"formats and folds", loss(budget.mixed)},
                     {"formats alone", budget.plain ? loss(*budget.plain) : nlohmann::json()},
                     {"chose_plain", budget.chose_plain}};
  }
  for (const LayerReport& layer : report.layers) out["layers"].push_back(json_of(layer));
  if (report.evaluation_tokens == 0) return out;
  nlohmann::json curve = nlohmann::json::array();
  for (const CurvePoint& p : report.curve) {
    nlohmann::json point = {{"asked", p.asked}, {"reachable", p.reachable}};
    if (p.reachable) {
      point.update({{"reduction", p.reduction},
                    {"predictor_bits", p.predictor_bits},
                    {"fallback", p.fallback},
                    {"read", {{"1", p.read[0]}, {"4", p.read[1]}, {"16", p.read[2]}}}});
      point.update(json_of(p.quality));
    }
    curve.push_back(point);
  }
  out["evaluation"] = {{"tokens", report.evaluation_tokens},
                       {"dense_perplexity", report.dense_perplexity},
                       {"folded", json_of(report.folded)},
                       {"dropped", json_of(report.dropped)},
                       {"curve", curve}};
  return out;
}

}  // namespace pleat
