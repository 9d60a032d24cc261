#include "core/fold/quality.h"

#include <algorithm>
#include <cmath>

#include "kernels/check.h"

namespace pleat {

QualityReport means_of(const Divergence& sum) {
  PLEAT_REQUIRE(sum.tokens > 0, "the text is too short to compare models on: no window is longer than its prompt");
  const double n = double(sum.tokens);
  return {std::exp(sum.loss / n), sum.kl / n, double(sum.agreeing) / n};
}

QualityComparison compare_with_dense(DenseModel& model, std::span<const Window> windows,
                                     std::span<FfnHook* const> hooks, int64_t first,
                                     const std::function<void(double)>& done) {
  std::vector<Divergence> totals(hooks.size());
  Divergence dense_total;
  ThreadTeam& team = model.context().team();
  for (size_t w = 0; w < windows.size(); ++w) {
    const Window& window = windows[w];
    const int64_t scored = int64_t(window.size()) - 1;
    const DenseLogits dense = keep_logits(team, model.run(window, nullptr, true), scored);
    for (int64_t row = first; row < scored; ++row, ++dense_total.tokens)
      dense_total.loss += dense.sum[size_t(row)] - dense.logits[row][window[size_t(row) + 1]];
    for (size_t v = 0; v < hooks.size(); ++v) {
      totals[v] += compare_logits(team, dense, model.run(window, hooks[v], true), std::span(window).subspan(1), first);
    }
    if (done) done(double(w + 1) / double(windows.size()));
  }
  QualityComparison out{means_of(dense_total).perplexity, dense_total.tokens, {}};
  for (const Divergence& total : totals) out.variants.push_back(means_of(total));
  return out;
}

void FoldedForm::ffn(int layer, const StepPlan& plan, MatrixView<const float> x, MatrixView<float> y) {
  const FoldedLayer* const changed = layers_[size_t(layer)];
  if (changed == nullptr) return;
  const FoldedLayer::Neurons neurons = changed->neurons(ctx_, x, {0, prompt_});
  const bool all_rows = changed->spec().selection == SelectionKind::hot;
  const Table folded = changed->output(ctx_, form_, x, neurons);
  const MatrixView<const float> head(x.data, all_rows ? 0 : std::min(prompt_, x.rows), x.cols, x.stride);
  const Table dense = changed->output(ctx_, FfnForm::dense, head);
  for (int64_t row = 0; row < x.rows; ++row)
    std::copy_n(all_rows || plan.rows[size_t(row)].position >= prompt_ ? folded[row] : dense[row], x.cols, y[row]);
}

int64_t prompt_rows(bool chooses, int64_t longest) {
  constexpr int64_t kLongestPrompt = 128;
  return chooses ? std::clamp<int64_t>(longest / 2, 1, kLongestPrompt) : 1;
}

int64_t prompt_rows(const std::vector<const FoldedLayer*>& layers, int64_t longest) {
  const bool chooses = std::any_of(layers.begin(), layers.end(), [](const FoldedLayer* layer) {
    return layer != nullptr && by_prompt(layer->spec().selection);
  });
  return prompt_rows(chooses, longest);
}

}  // namespace pleat
