#pragma once
// How far a changed model is from the dense one, teacher-forced, and what the changes are: folded FFNs, or noise in one
// layer.
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "core/fold/dense_model.h"
#include "core/fold/layer_fold.h"
#include "core/fold/logit_comparison.h"
#include "core/fold/report.h"

namespace pleat {

struct QualityComparison {
  double dense_perplexity = 0;
  int64_t tokens = 0;                   // compared
  std::vector<QualityReport> variants;  // one a hook
};

// Means over a sum's tokens; Error(invalid) where it has none.
QualityReport means_of(const Divergence& sum);

// Over each window's rows from `first` on: those before run densely (but with selection static) and would hide a part
// of the difference. `done` is called with the share of windows finished.
QualityComparison compare_with_dense(DenseModel& model, std::span<const Window> windows,
                                     std::span<FfnHook* const> hooks, int64_t first,
                                     const std::function<void(double)>& done = {});

// Replaces the FFN outputs of one window by one form of the folded layers; those of its first `prompt` tokens by their
// dense one.
class FoldedForm : public FfnHook {
 public:
  // layers: nullptr leaves a layer as it is.
  FoldedForm(Context& ctx, std::vector<const FoldedLayer*> layers, FfnForm form, int64_t prompt)
      : ctx_(ctx), layers_(std::move(layers)), form_(form), prompt_(prompt) {}
  void ffn(int layer, const StepPlan& plan, MatrixView<const float> x, MatrixView<float> y) override;

 private:
  Context& ctx_;
  std::vector<const FoldedLayer*> layers_;
  FfnForm form_;
  int64_t prompt_;
};

// How many rows of a window run densely: position 0 alone, or where a prompt has to choose neurons one of 128, but at
// most half of `longest`, the tokens that a window may have.
int64_t prompt_rows(bool chooses, int64_t longest);
int64_t prompt_rows(const std::vector<const FoldedLayer*>& layers, int64_t longest);

// [layers] KL of the model's output for a unit of squared error in one layer's FFN output (method.md section 2, step 2:
// layers differ greatly in what an error costs): measured with isotropic noise of fixed seed, a few percent of the
// output's energy.
std::vector<double> measure_sensitivity(DenseModel& model, std::span<const Window> windows,
                                        const std::function<void(double)>& done = {});

}  // namespace pleat
