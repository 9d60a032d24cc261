#include "core/model/fold_spec.h"

#include <nlohmann/json.hpp>

#include "kernels/check.h"

namespace pleat {

constexpr int kVersion = 2;  // 1 had the fold's codes [in, out]

std::string FoldSpec::name(int layer, const char* tensor) { return concat("pleat.layers.", layer, ".", tensor); }

FfnBytes ffn_bytes(const FoldSpec& spec, int64_t hidden, int64_t neurons) {
  constexpr int64_t bf16_bytes = 2, f32_bytes = 4;
  const int64_t groups = (hidden + kGroup - 1) / kGroup;
  const int64_t fold = spec.fold_format == WeightFormat::int8 ? hidden * hidden + groups * hidden * bf16_bytes
                                                              : hidden * hidden * bf16_bytes;
  const int64_t predictor = neurons * ((hidden * spec.predictor_bits + 7) / 8 + 2 * groups * bf16_bytes);
  const int64_t row = hidden * bf16_bytes, value = neurons * f32_bytes;
  FfnBytes bytes;
  bytes.fixed = fold + hidden * f32_bytes;
  switch (spec.selection) {
    case SelectionKind::range:
      bytes.dense = 2 * row * neurons;
      bytes.fixed += predictor + 3 * value;        // bias, range
      bytes.per_neuron = 2 * row + 2 * f32_bytes;  // a, c
      bytes.stored_lines = 2 * value;
      break;
    case SelectionKind::gate:
      bytes.dense = 3 * row * neurons;
      bytes.shared = row * neurons;
      bytes.fixed += bytes.shared + 3 * value;     // gate bias, c, factor
      bytes.per_neuron = 2 * row + 3 * f32_bytes;  // up bias, e, f
      bytes.stored_lines = 2 * value;
      break;
    case SelectionKind::predictor:
      bytes.dense = 3 * row * neurons;
      bytes.fixed += 2 * predictor + 6 * value;  // two biases, c, e, f, factor
      bytes.per_neuron = 3 * row;
      break;
  }
  return bytes;
}

bool has_predictor(SelectionKind selection) { return selection != SelectionKind::gate; }

bool is_for_gated(SelectionKind selection) { return selection != SelectionKind::range; }

std::string_view name_of(SelectionKind selection) {
  switch (selection) {
    case SelectionKind::range:
      return "range";
    case SelectionKind::gate:
      return "gate";
    case SelectionKind::predictor:
      return "predictor";
  }
  return "?";
}

SelectionKind selection_named(std::string_view name) {
  for (SelectionKind kind : {SelectionKind::range, SelectionKind::gate, SelectionKind::predictor})
    if (name == name_of(kind)) return kind;
  throw Error(ErrorKind::invalid, concat("unknown fold selection '", name, "', known: range, gate, predictor"));
}

std::string to_metadata(const FoldSpec& spec) {
  return nlohmann::json{{"version", kVersion},
                        {"selection", name_of(spec.selection)},
                        {"predictor_bits", spec.predictor_bits},
                        {"fold_format", spec.fold_format == WeightFormat::int8 ? "int8" : "bf16"},
                        {"reduction", spec.reduction}}
      .dump();
}

FoldSpec fold_spec_from_metadata(const std::string& text) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  PLEAT_REQUIRE(json.is_object(), "the checkpoint's 'fold' metadata is not a JSON object");
  const auto text_of = [&](const char* key) {
    const auto it = json.find(key);
    PLEAT_REQUIRE(it != json.end() && it->is_string(), "the checkpoint's 'fold' metadata has no text '", key, "'");
    return it->get<std::string>();
  };
  const auto number_of = [&](const char* key) {
    const auto it = json.find(key);
    PLEAT_REQUIRE(it != json.end() && it->is_number(), "the checkpoint's 'fold' metadata has no number '", key, "'");
    return it->get<double>();
  };
  PLEAT_REQUIRE(number_of("version") == kVersion, "the checkpoint's fold has version ", number_of("version"),
                ", this program reads ", kVersion, ": fold the dense model again");
  FoldSpec spec;
  spec.selection = selection_named(text_of("selection"));
  const double bits = number_of("predictor_bits");
  PLEAT_REQUIRE(bits == 1 || bits == 2 || bits == 3, "the fold's predictor has ", bits, " bits, known: 1, 2, 3");
  spec.predictor_bits = int(bits);
  const std::string format = text_of("fold_format");
  PLEAT_REQUIRE(format == "int8" || format == "bf16", "unknown fold format '", format, "', known: int8, bf16");
  spec.fold_format = format == "int8" ? WeightFormat::int8 : WeightFormat::bf16;
  spec.reduction = number_of("reduction");
  return spec;
}

}  // namespace pleat
