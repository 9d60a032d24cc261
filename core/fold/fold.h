#pragma once
// Folds a dense model folder: calibrate on a text, choose ranges under one error budget, write the folded folder and
// its report (method.md sections 1 to 3; docs/folding.md).
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "core/fold/report.h"
#include "kernels/matmul.h"

namespace pleat {

struct FoldOptions {
  std::string model;                       // dense Hugging Face folder or GGUF file
  std::string text;                        // calibration text (UTF-8)
  std::string out;                         // folder to write; must not exist or be empty
  std::optional<SelectionKind> selection;  // default: predictor for gated FFNs, range for others
  double reduction = 0;    // share of FFN weight bytes no longer read per token at batch 1, everything counted; 0: 0.8,
                           // with the exact gate, which alone is a third of the bytes, 0.4; with gated predictors 0.5
  int predictor_bits = 2;  // 1, 2 or 3
  WeightFormat fold_format = WeightFormat::int8;  // int8 or bf16
  int64_t max_tokens = 65536;                     // calibration tokens, spread over the text; 0: all of it
  std::string evaluation_text;  // held-out text for the report's quality and its curve of reductions; empty: none
  int64_t evaluation_tokens = 8192;
  int threads = 1;
  bool oversubscribed = false;
};

// A stage's name ("calibrate", "predictor", ...) and how much of it is done, 0 to 1.
using FoldProgress = std::function<void(const std::string& stage, double fraction)>;

// Writes the folder with fold_report.json and fold_report.svg inside; nothing is left behind when it fails.
// Error(invalid) in one sentence if the model cannot be folded, the text is too short, or the reduction cannot be
// reached (naming the largest that can).
FoldReport fold_model(const FoldOptions& options, const FoldProgress& progress = {});

}  // namespace pleat
