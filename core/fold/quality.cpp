#include "core/fold/quality.h"

#include <algorithm>
#include <cmath>

#include "core/fold/logit_comparison.h"

namespace pleat {

QualityComparison compare_with_dense(DenseModel& model, std::span<const Window> windows,
                                     std::span<FfnHook* const> hooks, const std::function<void(double)>& done) {
  std::vector<Divergence> totals(hooks.size());
  double dense_loss = 0;
  int64_t tokens = 0;
  ThreadTeam& team = model.context().team();
  for (size_t w = 0; w < windows.size(); ++w) {
    const Window& window = windows[w];
    const int64_t scored = int64_t(window.size()) - 1;
    const DenseLogits dense = keep_logits(team, model.run(window, nullptr, true), scored);
    tokens += scored;
    for (int64_t row = 0; row < scored; ++row)
      dense_loss += dense.sum[size_t(row)] - dense.logits[row][window[size_t(row) + 1]];
    for (size_t v = 0; v < hooks.size(); ++v) {
      totals[v] += compare_logits(team, dense, model.run(window, hooks[v], true), std::span(window).subspan(1));
    }
    if (done) done(double(w + 1) / double(windows.size()));
  }
  const double n = double(tokens);
  QualityComparison out{std::exp(dense_loss / n), tokens, {}};
  for (const Divergence& total : totals) {
    out.variants.push_back({std::exp(total.loss / n), total.kl / n, double(total.agreeing) / n});
  }
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

int64_t prompt_rows(const std::vector<const FoldedLayer*>& layers) {
  constexpr int64_t kPrompt = 128;
  const bool chosen = std::any_of(layers.begin(), layers.end(), [](const FoldedLayer* layer) {
    return layer != nullptr && by_prompt(layer->spec().selection);
  });
  return chosen ? kPrompt : 1;
}

}  // namespace pleat
