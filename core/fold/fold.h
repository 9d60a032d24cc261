#pragma once
// Folds a dense model folder: calibrate on a text, decide for each layer who is computed exactly and in which formats,
// write the folded folder and its report (method.md sections 1 to 6; docs/folding.md).
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "core/fold/layer_recipe.h"
#include "core/fold/report.h"
#include "kernels/matmul.h"

namespace pleat {

struct FoldOptions {
  std::string model;            // dense Hugging Face folder or GGUF file
  std::string text;             // calibration text (UTF-8)
  std::string out;              // folder to write; must not exist or be empty
  int64_t max_tokens = 65536;   // calibration tokens, spread over the text; 0: all of it
  std::string evaluation_text;  // held-out text for the report's quality and its curve of reductions; empty: none
  int64_t evaluation_tokens = 8192;
  WeightFormat dtype = WeightFormat::bf16;  // in which the model runs the texts: bf16 or f32
  int threads = 1;
  bool oversubscribed = false;

  // One recipe for all layers, the exact share such that so much is saved; selections range, gate and predictor share
  // one error budget over layers (and neurons).
  std::optional<SelectionKind> selection;  // default: predictor for gated FFNs, range for others
  // Share of FFN weight bytes no longer read per token at batch 1, everything counted; default: 0.8, with the exact
  // gate, which alone is a third of the bytes, 0.4; else 0.5. Not with selection all.
  std::optional<double> reduction;
  int predictor_bits = 2;                         // 1, 2 or 3
  WeightFormat fold_format = WeightFormat::int8;  // int8 or bf16
  bool lines = true;
  double inputs = 1;  // share of its inputs that a token's gate and up, or W1, see; selections all, threshold, static
  FfnFormats rows;    // of the exact rows

  // Or the recipe with the least loss that has at most so many FFN bytes of dense bf16's, read in a step of so many
  // rows or stored.
  double budget = 0;  // share; 0: none
  int batch = 1;      // one of kReportBatches
  bool stored = false;
  std::string options;  // the options.json of an earlier search on the same model; empty: measure them

  std::string recipe;  // or a recipe file; empty: none
};

// A stage's name ("calibrate", "predictor", ...) and how much of it is done, 0 to 1.
using FoldProgress = std::function<void(const std::string& stage, double fraction)>;

// Writes the folder with fold_report.json, fold_report.svg and recipe.json (and options.json of a search) inside;
// nothing is left behind when it fails. Error(invalid) in one sentence if the model cannot be folded, the text is too
// short, or the reduction or budget cannot be reached (naming the one that can).
FoldReport fold_model(const FoldOptions& options, const FoldProgress& progress = {});

}  // namespace pleat
