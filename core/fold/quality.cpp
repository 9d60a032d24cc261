#include "core/fold/quality.h"

#include <algorithm>
#include <cmath>

namespace pleat {
namespace {

// log of the sum of exp(logits), the exponentials in f32, their sum in f64.
double log_sum(const float* logits, size_t n) {
  const float largest = *std::max_element(logits, logits + n);
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += double(std::exp(logits[i] - largest));
  return double(largest) + std::log(sum);
}

struct Totals {
  double loss = 0, kl = 0;
  int64_t agreeing = 0;

  void operator+=(const Totals& o) { loss += o.loss, kl += o.kl, agreeing += o.agreeing; }
};

// One window's dense logits, kept while its variants run.
struct DenseLogits {
  Table logits;             // [scored, vocab]
  std::vector<double> sum;  // [scored]
};

DenseLogits dense_logits(ThreadTeam& team, MatrixView<const float> logits, int64_t scored) {
  DenseLogits out{Table(scored, logits.cols), std::vector<double>(size_t(scored))};
  team.split(scored, [&](int, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      std::copy_n(logits[row], logits.cols, out.logits[row]);
      out.sum[size_t(row)] = log_sum(logits[row], size_t(logits.cols));
    }
  });
  return out;
}

Totals compare_row(const float* dense, double dense_sum, const float* changed, size_t vocab, size_t next) {
  const double changed_sum = log_sum(changed, vocab);
  double kl = changed_sum - dense_sum;
  for (size_t i = 0; i < vocab; ++i) {
    kl += double(std::exp(dense[i] - float(dense_sum))) * (double(dense[i]) - changed[i]);
  }
  const bool agrees =
      std::max_element(dense, dense + vocab) - dense == std::max_element(changed, changed + vocab) - changed;
  return {changed_sum - changed[next], kl, agrees};
}

}  // namespace

QualityComparison compare_with_dense(DenseModel& model, std::span<const Window> windows,
                                     std::span<FfnHook* const> hooks, const std::function<void(double)>& done) {
  std::vector<Totals> totals(hooks.size());
  double dense_loss = 0;
  int64_t tokens = 0;
  ThreadTeam& team = model.context().team();
  for (size_t w = 0; w < windows.size(); ++w) {
    const Window& window = windows[w];
    const int64_t scored = int64_t(window.size()) - 1;
    const DenseLogits dense = dense_logits(team, model.run(window, nullptr, true), scored);
    tokens += scored;
    for (int64_t row = 0; row < scored; ++row)
      dense_loss += dense.sum[size_t(row)] - dense.logits[row][window[size_t(row) + 1]];
    for (size_t v = 0; v < hooks.size(); ++v) {
      const MatrixView<const float> changed = model.run(window, hooks[v], true);
      std::vector<Totals> rows(static_cast<size_t>(scored));
      team.split(scored, [&](int, int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          rows[size_t(row)] = compare_row(dense.logits[row], dense.sum[size_t(row)], changed[row], size_t(changed.cols),
                                          size_t(window[size_t(row) + 1]));
        }
      });
      for (const Totals& row : rows) totals[v] += row;
    }
    if (done) done(double(w + 1) / double(windows.size()));
  }
  const double n = double(tokens);
  QualityComparison out{std::exp(dense_loss / n), tokens, {}};
  for (const Totals& total : totals) {
    out.variants.push_back({std::exp(total.loss / n), total.kl / n, double(total.agreeing) / n});
  }
  return out;
}

void FoldedForm::ffn(int layer, const StepPlan& plan, MatrixView<const float> x, MatrixView<float> y) {
  const Table changed = layers_[size_t(layer)].output(ctx_, form_, x);
  for (int64_t row = 0; row < x.rows; ++row) {
    if (plan.rows[size_t(row)].position != 0) std::copy_n(changed[row], x.cols, y[row]);
  }
}

}  // namespace pleat
