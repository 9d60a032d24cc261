#pragma once
// What a fold did, measured: on calibration text per layer, on held-out text for the whole model.
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "core/fold/layer_recipe.h"

namespace pleat {

constexpr std::array<int, 3> kReportBatches = {1, 4, 16};

struct LayerReport {
  double weight = 0;       // KL of the output per squared error of this layer's FFN output, relative to the mean layer
  double coverage = 0;     // share of (token, neuron) whose z is inside its range
  double fallback = 0;     // share computed exactly: z~ outside
  double inputs = 1;       // share of its inputs that a token's gate and up, or W1, see
  double recall = 0;       // of those whose z is outside, found by z~
  double precision = 0;    // of those found, outside indeed
  double error = 0;        // relative squared error of the FFN output: folded with fallback,
  double error_alone = 0;  //   the fold alone,
  double error_dropped = 0;         //   the same exact neurons, the rest dropped
  std::array<double, 3> read = {};  // bytes per step at batch 1, 4, 16 (real unions of rows of different windows)
  double stored = 0;                // bytes on the device
  double dense = 0;                 // bytes of the same layer's FFN in bf16
};

// Teacher-forced on held-out text, over the tokens behind each window's prompt, which runs densely: position 0, or what
// selections prompt and core choose by.
struct QualityReport {
  double perplexity = 0;
  double kl = 0;         // of the dense model's next-token distribution from this one's, nats a token
  double agreement = 0;  // share of tokens with the same best next token
};

struct CurvePoint {
  double asked = 0;  // reduction
  bool reachable = false;
  int predictor_bits = 0;  // as the fold's, or 1 where those bytes alone are too many
  double reduction = 0;    // met on calibration text
  double fallback = 0;
  std::array<double, 3> read = {};  // share of the dense bytes at batch 1, 4, 16
  QualityReport quality;
};

// A recipe's bytes, share of dense bf16's, and its KL on calibration text that nothing was fitted on.
struct RecipeLoss {
  double bytes = 0;      // as the budget counts
  double predicted = 0;  // sum over layers, each changed alone
  double measured = 0;   // all changed together
};

struct BudgetReport {
  double asked = 0;
  int batch = 1;
  bool stored = false;
  RecipeLoss mixed;
  std::optional<RecipeLoss> plain;  // of formats alone; none where they are all too large
  bool chose_plain = false;         // it measured better
};

struct PlainPoint {
  std::string format;
  double bytes = 0;  // share of dense bf16's, read at every batch and stored
  double kl = 0;
};

struct FoldReport {
  bool gated = false;
  std::vector<LayerRecipe> recipe;     // [layers]
  std::optional<BudgetReport> budget;  // where one was asked for
  double asked = 0;                    // reduction, where one was asked for
  double reduction = 0;                // share of FFN weight bytes no longer read per token at batch 1
  double kl = 0;                       // nats a token behind a prompt, on calibration text that nothing was fitted on
  bool kl_is_fitted = false;      // it was, the text being too short to keep a part apart; plain's and budget's too
  std::vector<PlainPoint> plain;  // plain quantisation on the same tokens
  int64_t calibration_tokens = 0;
  int64_t sample_rows = 0;  // calibration rows the statistics below come from
  double seconds = 0;
  std::vector<LayerReport> layers;
  LayerReport total;              // sums of bytes, means of shares, errors weighted by output energy
  int64_t evaluation_tokens = 0;  // 0: no held-out text was given, what follows is empty
  double dense_perplexity = 0;
  QualityReport folded, dropped;  // dropped: the no-fold control, the same exact neurons and nothing else
  std::vector<CurvePoint> curve;
};

// When to fold and when not, in this model's numbers: read and stored bytes as shares of dense bf16's, KL.
struct AdviceNumbers {
  std::array<double, 3> read = {};
  double stored = 0, kl = 0;
  std::vector<PlainPoint> plain;
  bool kl_is_fitted = false;
};
std::string advice(const AdviceNumbers& numbers);
AdviceNumbers advice_numbers(const FoldReport& report);
// From fold_report.json; nullopt where it lacks them.
std::optional<AdviceNumbers> advice_numbers(const nlohmann::json& report);

nlohmann::ordered_json recipe_json(const FoldReport& report);
std::string to_text(const FoldReport& report);
nlohmann::json to_json(const FoldReport& report);
std::string to_svg(const FoldReport& report);

}  // namespace pleat
