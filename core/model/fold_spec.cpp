#include "core/model/fold_spec.h"

#include <array>
#include <cmath>

#include <nlohmann/json.hpp>

#include "core/checkpoint/json_file.h"
#include "kernels/check.h"

namespace pleat {
namespace {

constexpr int kFoldVersion = 3;  // 1 had the fold's codes [in, out], 2 one selection for all layers

constexpr double kMostReduction = 10;  // a share of bytes; below 0 where a small model's fold costs more than it saves

constexpr std::array kSelections = {SelectionKind::all,       SelectionKind::range,     SelectionKind::gate,
                                    SelectionKind::predictor, SelectionKind::threshold, SelectionKind::prompt,
                                    SelectionKind::core,      SelectionKind::hot};

}  // namespace

std::string FoldSpec::name(int layer, const char* tensor) { return concat("pleat.layers.", layer, ".", tensor); }

namespace {

// A neuron's row (kernels/low_bit_row.h): planes have their scales along it.
int64_t row_bytes(WeightFormat format, int64_t hidden) {
  if (!has_planes(format)) return matrix_bytes(format, hidden, 1);
  const int64_t groups = (hidden + kGroup - 1) / kGroup;
  return hidden * bits_of(format) / 8 + groups * (2 * int64_t(sizeof(bf16)) + bits_of(format));
}

}  // namespace

FfnBytes ffn_bytes(const LayerFoldSpec& spec, const FfnFormats& formats, bool gated, int64_t hidden, int64_t neurons,
                   const ProtectedCounts& kept) {
  constexpr int64_t f32_bytes = 4, index_bytes = 4, bf16_bytes = 2;
  const int64_t value = neurons * f32_bytes, biases = (gated ? 2 : 1) * value;
  const bool by_neuron = gathers(spec.selection) && !spec.cuts_inputs;  // how gate and up stand
  const int64_t gate_kept = by_neuron ? kept.gate * bf16_bytes : 0, up_kept = by_neuron ? kept.up * bf16_bytes : 0;
  const int64_t gate = gated ? row_bytes(formats.gate, hidden) + gate_kept : 0;  // of one neuron
  const int64_t up = row_bytes(formats.up, hidden) + up_kept, down = row_bytes(formats.down, hidden);
  const int64_t held = spec.selection == SelectionKind::hot ? spec.neurons : neurons;
  const int64_t per_input = (gated ? row_bytes(formats.gate, held) : 0) + row_bytes(formats.up, held);
  const int64_t whole = (gated ? matrix_bytes(formats.gate, hidden, held) : 0) + matrix_bytes(formats.up, hidden, held);
  const int64_t rows = (spec.cuts_inputs          ? hidden * per_input
                        : gathers(spec.selection) ? held * (gate + up)
                                                  : whole) +
                       (gathers(spec.selection) ? held * down : matrix_bytes(formats.down, held, hidden));
  const int64_t predictor =
      neurons * ((hidden * spec.predictor_bits + 7) / 8 + (hidden + kGroup - 1) / kGroup * 2 * int64_t(sizeof(bf16)));
  const int64_t line = spec.lines ? (gated ? 3 : 2) * f32_bytes : 0;  // of one neuron
  const int64_t fold = hidden * f32_bytes + (spec.lines ? matrix_bytes(spec.fold_format, hidden, hidden) : 0);
  // Extreme inputs are among those that any row sees, and extreme neurons among the exact ones.
  const int64_t always = (kept.gate + kept.up + kept.down) * index_bytes + kept.down * hidden * bf16_bytes +
                         (by_neuron ? 0 : (kept.gate + kept.up) * held * bf16_bytes);
  FfnBytes bytes;
  bytes.dense = (gated ? 3 : 2) * matrix_bytes(WeightFormat::bf16, hidden, neurons);
  bytes.stored = rows + fold + line * neurons;
  switch (spec.selection) {
    case SelectionKind::all:
      bytes.fixed = bytes.stored = rows;
      break;
    case SelectionKind::range:
      bytes.fixed = fold + predictor + 3 * value;  // bias, range
      bytes.per_neuron = up + down + line;
      bytes.stored += predictor + 3 * value;
      break;
    case SelectionKind::gate:
      bytes.fixed = fold + gate * neurons + 3 * value;  // gate bias, center, factor
      bytes.per_neuron = up + down + f32_bytes + line;  // up bias
      bytes.stored += 2 * value + biases;
      break;
    case SelectionKind::predictor:
      bytes.fixed = fold + 2 * predictor + 3 * value + line * neurons;  // two biases, factor
      bytes.per_neuron = gate + up + down;
      bytes.stored += 2 * predictor + 3 * value;
      break;
    case SelectionKind::threshold:
      bytes.stored += biases;
      if (spec.cuts_inputs) {  // everything is known of all neurons but what the down rows add
        bytes.fixed = fold + biases;
        bytes.per_neuron = down + line;
        break;
      }
      bytes.fixed = fold + (gated ? gate : up) * neurons + value + line * neurons;  // a bias
      bytes.per_neuron = (gated ? up + f32_bytes : 0) + down;
      break;
    case SelectionKind::prompt:
    case SelectionKind::core:
      bytes.fixed = fold;
      bytes.per_neuron = gate + up + down + (gated ? 2 : 1) * f32_bytes + line;
      bytes.stored += biases;
      if (spec.selection == SelectionKind::prompt && spec.lines) bytes.stored += value;  // factor: read with the prompt
      break;
    case SelectionKind::hot:
      bytes.fixed = bytes.stored = fold + rows;
      break;
  }
  if (spec.cuts_inputs) {
    bytes.per_input = per_input;
    if (!gathers(spec.selection)) bytes.fixed -= hidden * per_input;
  }
  bytes.fixed += always;
  bytes.stored += always;
  return bytes;
}

bool has_predictor(SelectionKind selection) {
  return selection == SelectionKind::range || selection == SelectionKind::predictor;
}

bool gathers(SelectionKind selection) { return selection != SelectionKind::all && selection != SelectionKind::hot; }

bool by_prompt(SelectionKind selection) {
  return selection == SelectionKind::prompt || selection == SelectionKind::core;
}

bool is_for(SelectionKind selection, bool gated) {
  if (selection == SelectionKind::range) return !gated;
  return gated || (selection != SelectionKind::gate && selection != SelectionKind::predictor);
}

bool can_cut_inputs(SelectionKind selection) { return !gathers(selection) || selection == SelectionKind::threshold; }

std::string_view name_of(SelectionKind selection) {
  static constexpr std::string_view names[] = {"all",       "range",  "gate", "predictor",
                                               "threshold", "prompt", "core", "static"};
  return names[size_t(selection)];
}

SelectionKind selection_named(std::string_view name) {
  std::string known;
  for (SelectionKind kind : kSelections) {
    if (name == name_of(kind)) return kind;
    known += (known.empty() ? "" : ", ") + std::string(name_of(kind));
  }
  throw Error(ErrorKind::invalid, concat("unknown fold selection '", name, "', known: ", known));
}

std::string selection_names(bool gated) {
  std::string names;
  for (SelectionKind kind : kSelections)
    if (is_for(kind, gated)) names += (names.empty() ? "" : ", ") + std::string(name_of(kind));
  return names;
}

std::string to_metadata(const FoldSpec& spec) {
  nlohmann::json layers = nlohmann::json::array();
  for (const LayerFoldSpec& layer : spec.layers) {
    nlohmann::json json = {{"selection", name_of(layer.selection)}};
    if (layer.selection != SelectionKind::all) {
      json["lines"] = layer.lines;
      if (layer.lines) json["fold_format"] = name_of(layer.fold_format);
    }
    if (has_predictor(layer.selection)) json["predictor_bits"] = layer.predictor_bits;
    if (by_prompt(layer.selection)) json["share"] = layer.share;
    if (layer.selection == SelectionKind::hot) json["neurons"] = layer.neurons;
    if (layer.cuts_inputs) json["cuts_inputs"] = true;
    layers.push_back(std::move(json));
  }
  return nlohmann::json{{"version", kFoldVersion}, {"layers", layers}, {"reduction", spec.reduction}}.dump();
}

namespace {

LayerFoldSpec layer_from(const nlohmann::json& json, size_t layer) {
  const auto require = [&](bool ok, const char* what) {
    PLEAT_REQUIRE(ok, "the checkpoint's 'fold' metadata: layer ", layer, " ", what);
  };
  require(json.is_object(), "is not an object");
  const auto number = [&](const char* key, double low, double high) {
    const auto it = json.find(key);
    require(it != json.end() && it->is_number() && it->get<double>() >= low && it->get<double>() <= high,
            concat("has no possible number '", key, "'").c_str());
    return it->get<double>();
  };
  require(json.contains("selection") && json["selection"].is_string(), "names no selection");
  LayerFoldSpec spec;
  spec.selection = selection_named(json["selection"].get<std::string>());
  if (json.contains("cuts_inputs")) {
    require(json["cuts_inputs"] == true && can_cut_inputs(spec.selection), "cannot have its inputs cut");
    spec.cuts_inputs = true;
  }
  if (spec.selection == SelectionKind::all) {
    spec.lines = !spec.cuts_inputs;  // all are exact: nobody follows one
    return spec;
  }
  require(json.contains("lines") && json["lines"].is_boolean(), "does not say whether it has lines");
  spec.lines = json["lines"].get<bool>();
  if (spec.lines) {
    require(json.contains("fold_format") && json["fold_format"].is_string(), "has no fold_format");
    spec.fold_format = weight_format_named(json["fold_format"].get<std::string>());
    require(spec.fold_format == WeightFormat::int8 || spec.fold_format == WeightFormat::bf16,
            "has a fold that is neither int8 nor bf16");
  }
  if (has_predictor(spec.selection)) spec.predictor_bits = int(number("predictor_bits", 1, 3));
  if (by_prompt(spec.selection)) spec.share = number("share", 0, 1);
  if (spec.selection == SelectionKind::hot) spec.neurons = int64_t(number("neurons", 1, 1e9));
  return spec;
}

}  // namespace

FoldSpec fold_spec_from_metadata(const std::string& text) {
  const nlohmann::json json = parse_json(text, "the checkpoint's 'fold' metadata", kMetadataDepth);
  PLEAT_REQUIRE(json.is_object(), "the checkpoint's 'fold' metadata is not a JSON object");
  PLEAT_REQUIRE(json.contains("version") && json["version"] == kFoldVersion, "the checkpoint's fold has version ",
                json.value("version", nlohmann::json()).dump(), ", this program reads ", kFoldVersion,
                ": fold the dense model again");
  PLEAT_REQUIRE(json.contains("layers") && json["layers"].is_array() && json.contains("reduction") &&
                    json["reduction"].is_number(),
                "the checkpoint's 'fold' metadata has no list 'layers' or no number 'reduction'");
  FoldSpec spec;
  spec.reduction = json["reduction"].get<double>();
  PLEAT_REQUIRE(std::fabs(spec.reduction) <= kMostReduction, "the checkpoint's 'fold' metadata has the reduction ",
                spec.reduction, ", expected -", kMostReduction, " to ", kMostReduction);
  for (const nlohmann::json& layer : json["layers"]) spec.layers.push_back(layer_from(layer, spec.layers.size()));
  return spec;
}

}  // namespace pleat
