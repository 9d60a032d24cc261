// fold_report.svg: bars per layer, and perplexity against bytes read where held-out text was given.
#include <algorithm>
#include <cmath>

#include "core/fold/format_text.h"
#include "core/fold/report.h"

namespace pleat {
namespace {

constexpr double kWidth = 760, kLeft = 60, kRight = 20, kPlot = 150, kGap = 70;
constexpr const char* kColours[] = {"#4878a8", "#d98c3f", "#6a9f58", "#a8567a"};

std::string text(double x, double y, const std::string& words, const char* anchor = "middle") {
  return format_text("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y, anchor, words.c_str());
}

std::string line(double x1, double y1, double x2, double y2, const char* colour) {
  return format_text("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>\n", x1, y1, x2, y2, colour);
}

// One panel: linear axes, `top` its upper edge.
struct Panel {
  double top, x_low, x_high, y_low, y_high;

  double x(double value) const { return kLeft + (value - x_low) / (x_high - x_low) * (kWidth - kLeft - kRight); }
  double y(double value) const { return top + kPlot - (value - y_low) / (y_high - y_low) * kPlot; }

  std::string frame(const std::string& title, const char* y_pattern) const {
    std::string out = text(kLeft, top - 22, title, "start");
    for (int i = 0; i <= 4; ++i) {
      const double value = y_low + (y_high - y_low) * i / 4;
      out += line(kLeft, y(value), kWidth - kRight, y(value), "#dddddd") +
             text(kLeft - 6, y(value) + 4, format_text(y_pattern, value), "end");
    }
    return out;
  }
  std::string bar(double from, double to, double value_from, double value_to, const char* colour) const {
    return format_text("<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>\n", x(from),
                       y(value_to), x(to) - x(from), y(value_from) - y(value_to), colour);
  }
  std::string legend(std::initializer_list<const char*> names) const {
    std::string out;
    double at = kWidth - kRight - 130.0 * double(names.size());
    size_t i = 0;
    for (const char* name : names) {
      out += format_text("<rect x=\"%.1f\" y=\"%.1f\" width=\"10\" height=\"10\" fill=\"%s\"/>\n", at, top - 16,
                         kColours[i++]);
      out += text(at + 14, top - 7, name, "start");
      at += 130;
    }
    return out;
  }
};

std::string shares_panel(const FoldReport& report, double top) {
  const Panel panel{top, 0, double(report.layers.size()), 0, 100};
  std::string out = panel.frame("per layer, %", "%.0f") + panel.legend({"coverage", "exact", "recall"});
  for (size_t l = 0; l < report.layers.size(); ++l) {
    const LayerReport& layer = report.layers[l];
    const double shares[] = {layer.coverage, layer.fallback, layer.recall};
    for (size_t i = 0; i < 3; ++i) {
      const double from = double(l) + 0.14 + 0.24 * double(i);
      out += panel.bar(from, from + 0.22, 0, 100 * shares[i], kColours[i]);
    }
    out += text(panel.x(double(l) + 0.5), top + kPlot + 16, std::to_string(l));
  }
  return out;
}

std::string bytes_panel(const FoldReport& report, double top) {
  double highest = 25;
  for (const LayerReport& layer : report.layers) highest = std::max(highest, 100 * layer.read[2] / layer.dense);
  const Panel panel{top, 0, double(report.layers.size()), 0, std::ceil(highest / 20) * 20};
  std::string out = panel.frame("bytes read per step, % of dense bf16", "%.0f") +
                    panel.legend({"batch 1", "more for 4", "more for 16"});
  for (size_t l = 0; l < report.layers.size(); ++l) {
    const LayerReport& layer = report.layers[l];
    double below = 0;
    for (size_t i = 0; i < layer.read.size(); ++i) {
      const double share = 100 * layer.read[i] / layer.dense;
      out += panel.bar(double(l) + 0.2, double(l) + 0.8, below, std::max(share, below), kColours[i]);
      below = std::max(share, below);
    }
    out += text(panel.x(double(l) + 0.5), top + kPlot + 16, std::to_string(l));
  }
  return out;
}

std::string curve_panel(const FoldReport& report, double top) {
  double highest = report.dense_perplexity * 1.05;
  for (const CurvePoint& p : report.curve) {
    if (p.reachable) highest = std::max(highest, p.quality.perplexity);
  }
  const double margin = (highest - report.dense_perplexity) * 0.1;
  const Panel panel{top, 10, 60, report.dense_perplexity - margin, highest + margin};
  std::string out = panel.frame("held-out perplexity against bytes read at batch 1, % of dense bf16", "%.2f");
  for (int percent = 10; percent <= 60; percent += 10)
    out += text(panel.x(percent), top + kPlot + 16, std::to_string(percent));
  out += line(kLeft, panel.y(report.dense_perplexity), kWidth - kRight, panel.y(report.dense_perplexity), kColours[1]);
  out += text(kWidth - kRight, panel.y(report.dense_perplexity) - 5, "dense", "end");
  std::string path;
  for (const CurvePoint& p : report.curve) {
    if (!p.reachable) continue;
    const double x = panel.x(100 * p.read[0]), y = panel.y(p.quality.perplexity);
    path += format_text("%.1f,%.1f ", x, y);
    out += format_text("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\"/>\n", x, y, kColours[0]);
  }
  return out + format_text("<polyline points=\"%s\" fill=\"none\" stroke=\"%s\"/>\n", path.c_str(), kColours[0]);
}

}  // namespace

std::string to_svg(const FoldReport& report) {
  const int panels = report.curve.empty() ? 2 : 3;
  const double height = 60 + panels * (kPlot + kGap);
  std::string out = format_text(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" font-family=\"sans-serif\" "
      "font-size=\"12\">\n",
      kWidth, height);
  out += format_text("<rect width=\"%.0f\" height=\"%.0f\" fill=\"white\"/>\n", kWidth, height);
  out += text(kLeft, 22,
              format_text("Folded: %.1f%% of the FFN bytes no longer read per token", 100 * report.reduction), "start");
  out += shares_panel(report, 70) + bytes_panel(report, 70 + kPlot + kGap);
  if (!report.curve.empty()) out += curve_panel(report, 70 + 2 * (kPlot + kGap));
  return out + "</svg>\n";
}

}  // namespace pleat
