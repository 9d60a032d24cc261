#include "launcher/scores.h"

#include <algorithm>
#include <cmath>

namespace pleat {
namespace {

std::ptrdiff_t best(std::span<const double> values) {
  return std::max_element(values.begin(), values.end()) - values.begin();
}

}  // namespace

void log_softmax(std::span<const float> logits, std::vector<double>& log_probabilities) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - top);
  const double offset = top + std::log(sum);
  log_probabilities.resize(logits.size());
  std::transform(logits.begin(), logits.end(), log_probabilities.begin(), [&](float logit) { return logit - offset; });
}

double Scores::mean_nll() const { return tokens > 0 ? negative_log_likelihood / double(tokens) : 0; }

double Scores::perplexity() const { return std::exp(mean_nll()); }

void Scores::add(std::span<const double> model, int32_t next) {
  ++tokens;
  negative_log_likelihood -= model[size_t(next)];
}

void Scores::compare(std::span<const double> reference, std::span<const double> model) {
  for (size_t token = 0; token < reference.size(); ++token)
    divergence += std::exp(reference[token]) * (reference[token] - model[token]);
  agreements += best(reference) == best(model);
}

}  // namespace pleat
