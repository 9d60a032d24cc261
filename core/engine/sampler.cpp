#include "core/engine/sampler.h"

#include <algorithm>
#include <cmath>

#include "core/engine/philox.h"
#include "kernels/check.h"

namespace pleat {
namespace {

// Index of the largest logit, the lowest on ties.
size_t argmax(std::span<const float> logits) {
  size_t best = 0;
  bool is_number = true;
  for (size_t i = 0; i < logits.size(); ++i) {
    is_number &= !std::isnan(logits[i]);
    if (logits[i] > logits[best]) best = i;
  }
  if (!is_number || !std::isfinite(logits[best])) throw LogitsNotFinite();
  return best;
}

}  // namespace

Sampler::Sampler(int64_t vocab) : vocab_(size_t(vocab)) { candidates_.reserve(vocab_); }

int32_t Sampler::sample(const SamplingOptions& sampling, std::span<const int32_t> sequence,
                        std::span<const float> logits) {
  PLEAT_ASSERT(logits.size() == vocab_);
  const size_t raw_best = argmax(logits);
  if (sampling.temperature == 0 && sampling.repetition_penalty == 1) return int32_t(raw_best);

  fill(logits);
  penalise(sampling.repetition_penalty, sequence);
  return choose(sampling, sequence.size());
}

int32_t Sampler::sample(const SamplingOptions& sampling, std::span<const int32_t> sequence, const RowCandidates& row) {
  if (row.nans > 0 || !std::isfinite(row.best[0].value)) throw LogitsNotFinite();
  candidates_.clear();
  for (const TokenCandidate& candidate : row.best)
    if (candidate.token >= 0) candidates_.push_back({candidate.token, candidate.value, 0.0});
  std::sort(candidates_.begin(), candidates_.end(), [](auto& a, auto& b) { return a.token < b.token; });
  return choose(sampling, sequence.size());
}

// Among the candidates, which stand in the order of their ids.
int32_t Sampler::choose(const SamplingOptions& sampling, size_t position) {
  const Candidate best = *std::min_element(candidates_.begin(), candidates_.end(), before);
  if (sampling.temperature == 0) return best.token;

  const double inverse_temperature = 1.0 / double(sampling.temperature);
  for (Candidate& candidate : candidates_)
    candidate.weight = std::exp((double(candidate.logit) - double(best.logit)) * inverse_temperature);
  if (sampling.top_k > 0) keep_top_k(size_t(sampling.top_k));
  if (sampling.top_p < 1) keep_top_p(double(sampling.top_p));
  if (sampling.min_p > 0) keep_min_p(double(sampling.min_p));
  return draw(philox_uniform(sampling.seed, position));
}

void Sampler::fill(std::span<const float> logits) {
  candidates_.resize(vocab_);
  for (size_t i = 0; i < vocab_; ++i) candidates_[i] = {int32_t(i), logits[i], 0.0};
}

// Once a token, however often it occurs. A candidate's weight, not used yet, marks the tokens that had theirs.
void Sampler::penalise(float penalty, std::span<const int32_t> sequence) {
  if (penalty == 1) return;
  for (const int32_t token : sequence) {
    Candidate& candidate = candidates_[size_t(token)];
    if (candidate.weight != 0) continue;
    candidate.weight = 1;
    candidate.logit = candidate.logit < 0 ? candidate.logit * penalty : candidate.logit / penalty;
  }
}

// Filters leave the candidates in the order of their ids: sums are then taken in that order, and a filter that removes
// nothing changes nothing.
void Sampler::keep_top_k(size_t k) {
  if (k >= candidates_.size()) return;
  std::nth_element(candidates_.begin(), candidates_.begin() + int64_t(k), candidates_.end(), before);
  candidates_.resize(k);
  std::sort(candidates_.begin(), candidates_.end(), [](auto& a, auto& b) { return a.token < b.token; });
}

// The fewest best tokens that together have at least probability p.
void Sampler::keep_top_p(double p) {
  double total = 0;
  for (const Candidate& candidate : candidates_) total += candidate.weight;
  // The best few usually reach p, so they are sorted block by block, not all at once.
  size_t kept = 0;
  double sum = 0;
  for (size_t sorted = 0, block = 64; kept < candidates_.size() && (kept == 0 || sum < p * total); ++kept) {
    if (kept == sorted) {
      sorted = std::min(candidates_.size(), sorted + block);
      block *= 4;
      std::partial_sort(candidates_.begin() + int64_t(kept), candidates_.begin() + int64_t(sorted), candidates_.end(),
                        before);
    }
    sum += candidates_[kept].weight;
  }
  candidates_.resize(kept);
  std::sort(candidates_.begin(), candidates_.end(), [](auto& a, auto& b) { return a.token < b.token; });
}

// The best token's weight is 1.
void Sampler::keep_min_p(double p) {
  std::erase_if(candidates_, [&](const Candidate& candidate) { return candidate.weight < p; });
}

int32_t Sampler::draw(double uniform) const {
  double total = 0;
  for (const Candidate& candidate : candidates_) total += candidate.weight;
  const double target = uniform * total;
  double sum = 0;
  int32_t last = -1;
  for (const Candidate& candidate : candidates_) {
    if (candidate.weight == 0) continue;
    sum += candidate.weight;
    last = candidate.token;
    if (target < sum) break;
  }
  PLEAT_ASSERT(last >= 0);
  return last;
}

TokenLogprob Sampler::logprob(std::span<const float> logits, int32_t token, int best) {
  PLEAT_ASSERT(logits.size() == vocab_ && token >= 0 && size_t(token) < vocab_);
  const double largest = double(logits[argmax(logits)]);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(double(logit) - largest);
  const double log_sum = largest + std::log(sum);

  TokenLogprob result;
  result.token = token;
  result.logprob = float(double(logits[size_t(token)]) - log_sum);
  if (best <= 0) return result;
  fill(logits);
  const auto end = candidates_.begin() + std::min<int64_t>(best, int64_t(vocab_));
  std::partial_sort(candidates_.begin(), end, candidates_.end(), before);
  for (auto candidate = candidates_.begin(); candidate != end; ++candidate)
    result.best.emplace_back(candidate->token, float(double(candidate->logit) - log_sum));
  return result;
}

TokenLogprob Sampler::logprob(const RowCandidates& row, int32_t token, int best) const {
  const double log_sum = row.max + std::log(row.sum);
  const auto logprob_of = [&](const TokenCandidate& candidate) { return float(double(candidate.value) - log_sum); };
  const auto chosen = std::find_if(row.best.begin(), row.best.end(), [&](auto& each) { return each.token == token; });
  PLEAT_ASSERT(chosen != row.best.end(), "token ", token, " is no candidate");
  TokenLogprob result;
  result.token = token;
  result.logprob = logprob_of(*chosen);
  for (int i = 0; i < best && row.best[size_t(i)].token >= 0; ++i)
    result.best.emplace_back(row.best[size_t(i)].token, logprob_of(row.best[size_t(i)]));
  return result;
}

}  // namespace pleat
