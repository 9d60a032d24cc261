// The head: each rank computes its rows of the vocabulary; rank 0 gathers logits, or only each rank's best token or
// tokens where the sampler needs no more.
#include <cmath>
#include <cstring>

#include "core/engine/engine_state.h"
#include "kernels/activation.h"
#include "kernels/check.h"

namespace pleat {
namespace {

// Lowest token on ties; NaN where one of the logits is.
TokenCandidate best_of(const float* logits, int64_t count, int64_t first_token) {
  int64_t best = 0;
  bool is_number = count == 0 || !std::isnan(logits[0]);
  for (int64_t i = 1; i < count; ++i) {
    is_number &= !std::isnan(logits[i]);
    if (logits[i] > logits[best]) best = i;
  }
  return {is_number ? logits[best] : NAN, int32_t(first_token + best)};
}

// NaN goes before all.
bool goes_before(const TokenCandidate& a, const TokenCandidate& b) {
  return a.value > b.value || (std::isnan(a.value) && !std::isnan(b.value));
}

}  // namespace

void Engine::State::compute_logits(LogitsMode mode) {
  const int64_t wanted = int64_t(logit_rows.size());
  if (mode == LogitsMode::none || wanted == 0) return;
  PLEAT_ASSERT(!asks_for_candidates(mode), "the CPU gives no candidates");
  for (int64_t i = 0; i < wanted; ++i)
    std::memcpy(&sum[size_t(i * d)], &x[size_t(logit_rows[size_t(i)] * d)], size_t(d) * sizeof(float));
  const MatrixView<float> selected(sum.data(), wanted, d), final_x(normed.data(), wanted, d);
  normalise(weights.final_norm, selected, final_x);
  observe("ln_f", -1, final_x);
  const int64_t e = blueprint.embedding;
  const MatrixView<float> projected(sum.data(), wanted, e);
  if (e != d) matmul(context, final_x, weights.embedding_output, nullptr, projected);
  observe("head input", -1, e != d ? projected : final_x);
  const Range vocab = plan.vocab(rank);
  const MatrixView<float> local(local_logits.data(), wanted, vocab.size());
  matmul(context, e != d ? projected : final_x, weights.head,
         weights.head_bias.empty() ? nullptr : weights.head_bias.data(), local);
  if (blueprint.logit_soft_cap > 0) soft_cap(context, blueprint.logit_soft_cap, local);
  lap(EngineStatistics::head, weights.head.bytes());
  if (mode == LogitsMode::full) return gather_logits(local);
  for (int64_t i = 0; i < wanted; ++i) local_best[size_t(i)] = best_of(local[i], vocab.size(), vocab.begin);
  lap(EngineStatistics::head);
  gather_best(std::span(local_best).first(size_t(wanted)));
}

void Engine::State::gather_best(std::span<const TokenCandidate> local) {
  const size_t wanted = local.size(), ranks = size_t(communicator.ranks());
  if (wanted == 0) return;
  gather_bytes.assign(ranks, int64_t(local.size_bytes()));
  communicator.gather("best tokens", std::as_bytes(local), gather_bytes,
                      reinterpret_cast<std::byte*>(gathered_best.data()));
  best.assign(wanted, -1);
  for (size_t i = 0; rank == 0 && i < wanted; ++i) {
    TokenCandidate winner = gathered_best[i];
    for (size_t r = 1; r < ranks; ++r)
      if (const TokenCandidate& other = gathered_best[r * wanted + i]; goes_before(other, winner)) winner = other;
    best[i] = std::isfinite(winner.value) ? winner.token : -1;
  }
  lap(EngineStatistics::collective);
}

void Engine::State::gather_candidates(std::span<const RowCandidates> local) {
  const size_t wanted = local.size(), ranks = size_t(communicator.ranks());
  if (wanted == 0) return;
  gather_bytes.assign(ranks, int64_t(local.size_bytes()));
  communicator.gather("candidates", std::as_bytes(local), gather_bytes,
                      reinterpret_cast<std::byte*>(gathered_candidates.data()));
  for (size_t i = 0; rank == 0 && i < wanted; ++i)
    for (size_t r = 1; r < ranks; ++r) gathered_candidates[i].merge(gathered_candidates[r * wanted + i]);
  lap(EngineStatistics::collective);
}

void Engine::State::gather_logits(MatrixView<const float> local) {
  const int64_t wanted = local.rows;
  const size_t ranks = size_t(communicator.ranks());
  if (wanted == 0 || ranks == 1) return;
  for (size_t r = 0; r < ranks; ++r) gather_bytes[r] = wanted * plan.vocab(int(r)).size() * int64_t(sizeof(float));
  communicator.gather("logits", std::as_bytes(std::span(local.data, size_t(wanted * local.cols))), gather_bytes,
                      reinterpret_cast<std::byte*>(gathered_logits.data()));
  const float* part = gathered_logits.data();
  for (size_t r = 0; rank == 0 && r < ranks; ++r) {
    const Range range = plan.vocab(int(r));
    for (int64_t i = 0; i < wanted; ++i, part += range.size())
      std::memcpy(&all_logits[size_t(i * blueprint.vocab + range.begin)], part, size_t(range.size()) * sizeof(float));
  }
  lap(EngineStatistics::collective);
}

}  // namespace pleat
