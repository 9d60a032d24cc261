#pragma once
// Quantises a model folder: its FFN, attention and head matrices in low bits (core/model/quantised_tensors.h), by
// GPTQ in the order of activations where a calibration text is given (method.md section 6), else by rounding to
// nearest. Of a folded folder, whose FFN stays as it is, attention and head.
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "core/fold/plane_budget.h"
#include "kernels/matmul.h"

namespace pleat {

struct QuantizeOptions {
  std::string model;  // Hugging Face folder, dense or folded, or GGUF file
  std::string text;   // calibration text (UTF-8); empty: round to nearest
  std::string out;    // folder to write; must not exist or be empty
  // bf16: as it is. The down matrix is the sensitive one: below 4 bits it costs the most.
  WeightFormat gate_up = WeightFormat::int4;
  std::optional<WeightFormat> down;  // as gate_up
  WeightFormat attention = WeightFormat::int4, head = WeightFormat::int8;
  PlaneScales scales = PlaneScales::column;  // of matrices in planes
  // Above 0: the FFN in 2 to 4 planes by layer and matrix (plane_budget.h), this share of its bf16 bytes; needs a text,
  // and gate_up and down in planes.
  double budget = 0;
  int64_t max_tokens = 16384;               // calibration tokens, spread over the text; 0: all of it
  WeightFormat dtype = WeightFormat::bf16;  // in which the model runs the texts: bf16 or f32
  int threads = 1;
  bool oversubscribed = false;
};

// One kind of matrix over all layers.
struct QuantizedPart {
  std::string name;                          // "gate", "up", "down", "attention", "attention output", "head"
  WeightFormat format = WeightFormat::bf16;  // bf16: left as it was, for the reason in `note`
  std::string note;
  int64_t bytes_before = 0, bytes_after = 0;  // bf16; codes, scales and minimums
  int64_t protected_inputs = 0;               // of all its matrices: with extreme activations, held in bf16
  bool mixed = false;                         // as many planes as report.choices say; `format` has the most
  double error = 0;  // relative squared error: of the outputs on the calibration text, else of the weights
};

struct QuantizeReport {
  std::vector<QuantizedPart> parts;
  std::vector<PlaneChoice> choices;  // where there was a budget
  int64_t calibration_tokens = 0;    // 0: rounded to nearest
  double seconds = 0;
};
std::string to_text(const QuantizeReport& report);
nlohmann::json to_json(const QuantizeReport& report);

using QuantizeProgress = std::function<void(const std::string& stage, double fraction)>;

// Writes the folder with quantize_report.json inside; nothing is left behind when it fails. Error(invalid) in one
// sentence if the model is quantised already, folded where its FFN would have to change, or the text is too short.
QuantizeReport quantize_model(const QuantizeOptions& options, const QuantizeProgress& progress = {});

}  // namespace pleat
