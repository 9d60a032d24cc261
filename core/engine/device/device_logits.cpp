// The head, for the rows that want it, and what the last step read.
#include <algorithm>
#include <cmath>

#include "core/engine/device/device_state.h"
#include "kernels/cuda/activation.h"

namespace pleat {

using cuda::kMaxRows;

static_assert(kCandidates <= cuda::kMaxCandidates);

// Always by the kernels for few rows: a prompt wants the logits of its last one.
void DeviceStep::State::head(int first, int count) {
  const cuda::Rows w = weights.head.view();
  const float* const bias = weights.head_bias.size() > 0 ? weights.head_bias.data() : nullptr;
  const float* x = normed.data() + int64_t(first) * d;
  if (e != d) {
    const cuda::Rows output = weights.embedding_output.view();
    cuda::multiply_rows(handle(), input(x, count, d, output), {{output, nullptr, head_input.data(), e}});
    x = head_input.data();
  }
  cuda::multiply_rows(handle(), input(x, count, e, w), {{w, bias, device_logits.data(), vocab}});
  if (blueprint.logit_soft_cap > 0)
    cuda::soft_cap(handle(), float(blueprint.logit_soft_cap), {device_logits.data(), count, vocab});
}

void DeviceStep::State::find_results(int first, int count) {
  if (shape.logits == LogitsMode::none) return;
  head(first, count);
  if (asks_for_logits(shape.logits))
    cuda::copy_to_host(host_logits.data(), device_logits.data(), size_t(count) * size_t(vocab) * sizeof(float),
                       handle());
  if (shape.logits == LogitsMode::full) return;
  const int k = asks_for_candidates(shape.logits) ? kCandidates : 1;
  finder.find(handle(), count, k, device_logits.data(), device_best.data(), logit_sums.data());
  cuda::copy_to_host(host_best.data(), device_best.data(), size_t(count) * size_t(k) * sizeof(cuda::Candidate),
                     handle());
  cuda::copy_to_host(host_sums.data(), logit_sums.data(), size_t(count) * sizeof(cuda::LogitSum), handle());
}

RowCandidates DeviceStep::State::candidates_of(size_t row) const {
  RowCandidates out;
  for (size_t i = 0; i < kCandidates; ++i) {
    const cuda::Candidate& candidate = host_best[row * kCandidates + i];
    out.best[i] = {candidate.value, candidate.token};
  }
  const cuda::LogitSum& sum_there = host_sums[row];
  out.max = sum_there.max;
  out.sum = sum_there.sum;
  out.nans = sum_there.nans;
  return out;
}

void DeviceStep::State::read_results(std::span<const int32_t> rows) {
  if (shape.logits == LogitsMode::none) return sum->wait(stream);
  const int count = int(rows.size());
  for (int first = 0; first < count; first += kMaxRows) {
    const auto some = rows.subspan(size_t(first), size_t(std::min(kMaxRows, count - first)));
    if (std::ranges::all_of(some, [&](int32_t row) { return result_of[size_t(row)] < 0; })) continue;
    if (shape.prompt) find_results(first, int(some.size()));
    sum->wait(stream);
    keep_results(some);
  }
}

void DeviceStep::State::keep_results(std::span<const int32_t> rows) {
  for (size_t i = 0; i < rows.size(); ++i) {
    const int32_t result = result_of[size_t(rows[i])];
    if (result < 0) continue;
    if (asks_for_logits(shape.logits))
      std::copy_n(&host_logits[i * size_t(vocab)], vocab, &logits[size_t(result) * size_t(vocab)]);
    if (asks_for_candidates(shape.logits)) candidates[size_t(result)] = candidates_of(i);
    if (shape.logits == LogitsMode::argmax)
      best[size_t(result)] = {host_sums[i].nans > 0 ? NAN : host_best[i].value, host_best[i].token};
  }
}

PhaseBytes DeviceStep::State::bytes_of_pass(bool folded) const {
  PhaseBytes bytes{};
  bytes[EngineStatistics::head] = weights.head.bytes();
  for (size_t index = 0; index < weights.layers.size(); ++index) {
    const DeviceLayer& layer = weights.layers[index];
    bytes[EngineStatistics::attention] += layer.attention.query_key_value.bytes() + layer.attention.output.bytes();
    if (runs_folded(layer, !folded))
      add_folded_bytes(index, bytes);
    else
      bytes[EngineStatistics::dense_ffn] += layer.ffn.bytes();
  }
  return bytes;
}

PhaseBytes DeviceStep::weight_bytes() const {
  PhaseBytes bytes{};
  for (const bool folded : {false, true}) {
    if (state_->passes[folded] == 0) continue;
    const PhaseBytes of_pass = state_->bytes_of_pass(folded);
    for (size_t phase = 0; phase < bytes.size(); ++phase) bytes[phase] += state_->passes[folded] * of_pass[phase];
  }
  return bytes;
}

}  // namespace pleat
