#include "core/engine/prompt_selection.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/check.h"

namespace pleat {
namespace {

// Calls use(index) for the `count` largest values of [0, n), the lower index first among equals.
// work [n].
template <class Use>
void for_largest(const float* values, int64_t n, int64_t count, int32_t* work, Use use) {
  std::iota(work, work + n, 0);
  const auto before = [&](int32_t a, int32_t b) {
    const float first = std::isnan(values[a]) ? -1 : values[a], second = std::isnan(values[b]) ? -1 : values[b];
    return first > second || (first == second && a < b);
  };
  if (count < n) std::nth_element(work, work + count, work + n, before);
  for (int64_t i = 0; i < count; ++i) use(work[i]);
}

int64_t part_of(int64_t n, double share) { return std::clamp<int64_t>(std::llround(share * double(n)), 0, n); }

}  // namespace

PromptSelection::PromptSelection(const std::vector<LayerWeights>& layers, int slots) {
  for (const LayerWeights& weights : layers) {
    Layer& layer = layers_.emplace_back();
    if (!weights.folded || !by_prompt(weights.spec.selection)) continue;
    layer.spec = weights.spec;
    layer.shards = weights.neuron_offsets;
    layer.scores.resize(size_t(slots * layer.neurons()));
    layer.chosen.resize(layer.scores.size());
    if (int64_t(work_.size()) < layer.neurons()) work_.resize(size_t(layer.neurons()));
    if (magnitude_.size() < work_.size()) magnitude_.resize(work_.size());
  }
}

void PromptSelection::add_token_cores(const Layer& layer, const float* values, float* scores) {
  for (size_t shard = 0; shard + 1 < layer.shards.size(); ++shard) {
    const int64_t begin = layer.shards[shard], n = layer.shards[shard + 1] - begin;
    for (int64_t i = 0; i < n; ++i) magnitude_[size_t(i)] = std::fabs(values[begin + i]);
    for_largest(magnitude_.data(), n, part_of(n, kTokenCore), work_.data(), [&](int32_t i) { scores[begin + i] += 1; });
  }
}

void PromptSelection::choose(const Layer& layer, const float* scores, uint8_t* chosen) {
  std::fill_n(chosen, layer.neurons(), uint8_t(0));
  for (size_t shard = 0; shard + 1 < layer.shards.size(); ++shard) {
    const int64_t begin = layer.shards[shard], n = layer.shards[shard + 1] - begin;
    for_largest(scores + begin, n, part_of(n, layer.spec.share), work_.data(),
                [&](int32_t i) { chosen[begin + i] = 1; });
  }
}

void PromptSelection::add(int index, const StepPlan& plan, std::span<const StepRow> rows,
                          MatrixView<const float> values, const float* norms) {
  Layer& layer = layers_[size_t(index)];
  const int64_t neurons = layer.neurons();
  for (int64_t row = 0; row < int64_t(rows.size()); ++row) {
    const StepRow& r = rows[size_t(row)];
    const int64_t at = plan.slots[size_t(r.sequence)] * neurons;
    PLEAT_ASSERT(at + neurons <= int64_t(layer.scores.size()), "slot ", plan.slots[size_t(r.sequence)]);
    float* const scores = layer.scores.data() + at;
    if (r.position == 0) std::fill_n(scores, neurons, 0.0f);
    if (layer.spec.selection == SelectionKind::core) {
      add_token_cores(layer, values[row], scores);
    } else if (norms[row] > 0) {
      for (int64_t n = 0; n < neurons; ++n) {
        const float part = values[row][n] / norms[row];
        scores[n] += part * part;
      }
    }
    if (r.prompt_end) choose(layer, scores, layer.chosen.data() + at);
  }
}

void PromptSelection::select(Context& ctx, int index, const StepPlan& plan, std::span<const StepRow> rows,
                             Selection& selection) const {
  const Layer& layer = layers_[size_t(index)];
  const int64_t neurons = layer.neurons();
  std::fill_n(selection.rows.begin(), neurons, 0u);
  for (size_t row = 0; row < rows.size(); ++row) {
    const uint8_t* const chosen = layer.chosen.data() + plan.slots[size_t(rows[row].sequence)] * neurons;
    for (int64_t n = 0; n < neurons; ++n) selection.rows[size_t(n)] |= uint32_t(chosen[n]) << row;
  }
  selection.gather(ctx);
}

}  // namespace pleat
