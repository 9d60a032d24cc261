#include "core/fold/report.h"

#include <cstdio>

#include <nlohmann/json.hpp>

namespace pleat {
namespace {

template <class... Args>
std::string format(const char* pattern, Args... args) {
  char buffer[256];
  std::snprintf(buffer, sizeof buffer, pattern, args...);
  return buffer;
}

const char* name_of_format(const FoldSpec& spec) { return spec.fold_format == WeightFormat::int8 ? "int8" : "bf16"; }

std::string selector(const FoldSpec& spec) {
  if (!has_predictor(spec.selection)) return "exact gate";
  return format(is_for_gated(spec.selection) ? "predictors of gate and up, %d bits" : "predictor %d bits",
                spec.predictor_bits);
}

std::string row_text(const std::string& name, const LayerReport& r) {
  return format("%6s %7.2f %8.1f %8.2f %7.3f %7.3f %8.4f %8.4f %8.4f %7.1f %7.1f %7.1f %7.1f\n", name.c_str(), r.weight,
                100 * r.coverage, 100 * r.fallback, r.recall, r.precision, r.error, r.error_alone, r.error_dropped,
                100 * r.read[0] / r.dense, 100 * r.read[1] / r.dense, 100 * r.read[2] / r.dense,
                100 * r.stored / r.dense);
}

nlohmann::json json_of(const LayerReport& r) {
  return {{"weight", r.weight},
          {"coverage", r.coverage},
          {"fallback", r.fallback},
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

std::string to_text(const FoldReport& report) {
  std::string out = format("%.1f%% of the FFN weight bytes are no longer read per token (asked: %.1f%%); fold %s, %s\n",
                           100 * report.spec.reduction, 100 * report.asked, name_of_format(report.spec),
                           selector(report.spec).c_str());
  out += format("calibrated on %lld tokens, measured on %lld of them, in %.1f s\n\n",
                static_cast<long long>(report.calibration_tokens), static_cast<long long>(report.sample_rows),
                report.seconds);
  out += "                                                      relative squared error        bytes, % of dense bf16\n";
  out +=
      " layer  weight  cover %  exact %  recall   prec.   folded    alone  dropped  read,1  read,4 read,16  stored\n";
  for (size_t l = 0; l < report.layers.size(); ++l) out += row_text(std::to_string(l), report.layers[l]);
  out += row_text("all", report.total);
  out +=
      "(weight: what an error of the layer costs the output; folded: with the exact neurons; alone: without; dropped: "
      "the exact\n"
      "neurons without the fold)\n";
  if (report.evaluation_tokens == 0) return out;
  out += format(
      "\nheld-out text, %lld tokens: perplexity dense %.3f, folded %.3f (%+.2f%%), exact neurons alone %.3f "
      "(%+.1f%%)\n",
      static_cast<long long>(report.evaluation_tokens), report.dense_perplexity, report.folded.perplexity,
      percent_over(report.folded.perplexity, report.dense_perplexity), report.dropped.perplexity,
      percent_over(report.dropped.perplexity, report.dense_perplexity));
  out += format("KL %.5f nats a token, %.1f%% of the best next tokens agree\n\n", report.folded.kl,
                100 * report.folded.agreement);
  out += " reduction  bits  exact %  read,1  read,4 read,16  perplexity  vs dense       KL   agree\n";
  for (const CurvePoint& p : report.curve) {
    if (!p.reachable) {
      out += format("%9.1f%%  not reachable: C, B and the predictor alone are more\n", 100 * p.asked);
      continue;
    }
    out += format("%9.1f%% %5d %8.2f %7.1f %7.1f %7.1f %11.3f %8.2f%% %8.5f %6.1f%%\n", 100 * p.reduction,
                  p.predictor_bits, 100 * p.fallback, 100 * p.read[0], 100 * p.read[1], 100 * p.read[2],
                  p.quality.perplexity, percent_over(p.quality.perplexity, report.dense_perplexity), p.quality.kl,
                  100 * p.quality.agreement);
  }
  return out;
}

nlohmann::json to_json(const FoldReport& report) {
  nlohmann::json out = {{"asked_reduction", report.asked},
                        {"reduction", report.spec.reduction},
                        {"selection", name_of(report.spec.selection)},
                        {"predictor_bits", report.spec.predictor_bits},
                        {"fold_format", name_of_format(report.spec)},
                        {"calibration_tokens", report.calibration_tokens},
                        {"sample_rows", report.sample_rows},
                        {"seconds", report.seconds},
                        {"total", json_of(report.total)},
                        {"layers", nlohmann::json::array()}};
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
