#include "core/fold/quality.h"

#include <algorithm>
#include <cmath>

namespace pleat {
namespace {

// log softmax of a row, in double.
void log_softmax(const float* logits, std::vector<double>& out) {
  const double largest = *std::max_element(logits, logits + out.size());
  double sum = 0;
  for (size_t i = 0; i < out.size(); ++i) sum += std::exp(logits[i] - largest);
  const double shift = largest + std::log(sum);
  for (size_t i = 0; i < out.size(); ++i) out[i] = logits[i] - shift;
}

struct Totals {
  double loss = 0, kl = 0;
  int64_t agreeing = 0;
};

}  // namespace

QualityComparison compare_with_dense(DenseModel& model, std::span<const Window> windows,
                                     std::span<FfnHook* const> hooks, const std::function<void(double)>& done) {
  const size_t vocab = size_t(model.blueprint().vocab);
  std::vector<Totals> totals(hooks.size());
  double dense_loss = 0;
  int64_t tokens = 0;
  ThreadTeam& team = model.context().team();
  const size_t members = size_t(team.threads());
  for (size_t w = 0; w < windows.size(); ++w) {
    const Window& window = windows[w];
    const int64_t scored = int64_t(window.size()) - 1;
    const MatrixView<const float> logits = model.run(window, nullptr, true);
    Table dense(scored, int64_t(vocab));
    for (int64_t row = 0; row < scored; ++row) std::copy_n(logits[row], vocab, dense[row]);
    tokens += scored;
    for (size_t v = 0; v < hooks.size() || v == 0; ++v) {
      const MatrixView<const float> changed = hooks.empty() ? logits : model.run(window, hooks[v], true);
      std::vector<Totals> parts(members);
      std::vector<double> dense_parts(members);
      team.split(scored, [&](int member, int64_t begin, int64_t end) {
        std::vector<double> p(vocab), q(vocab);
        Totals& part = parts[size_t(member)];
        for (int64_t row = begin; row < end; ++row) {
          const size_t next = size_t(window[size_t(row) + 1]);
          log_softmax(dense[row], p);
          log_softmax(changed[row], q);
          for (size_t i = 0; i < vocab; ++i) part.kl += std::exp(p[i]) * (p[i] - q[i]);
          dense_parts[size_t(member)] -= p[next];
          part.loss -= q[next];
          part.agreeing +=
              std::max_element(p.begin(), p.end()) - p.begin() == std::max_element(q.begin(), q.end()) - q.begin();
        }
      });
      for (size_t member = 0; member < members; ++member) {
        if (v == 0) dense_loss += dense_parts[member];
        if (hooks.empty()) continue;
        totals[v].loss += parts[member].loss;
        totals[v].kl += parts[member].kl;
        totals[v].agreeing += parts[member].agreeing;
      }
    }
    if (done) done(double(w + 1) / double(windows.size()));
  }
  QualityComparison out{std::exp(dense_loss / double(tokens)), tokens, {}};
  for (const Totals& total : totals) {
    out.variants.push_back(
        {std::exp(total.loss / double(tokens)), total.kl / double(tokens), double(total.agreeing) / double(tokens)});
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
