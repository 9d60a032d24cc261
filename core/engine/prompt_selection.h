#pragma once
// Neurons chosen once for a sequence by its prompt and kept for its generation; a rank chooses among its own, the same
// number of each virtual shard, so that the choice does not depend on the number of ranks and no link is crossed.
//   prompt  GRIFFIN (arXiv 2404.01365): score_n^2 = sum over the prompt's tokens of (value_n / |h|)^2; value is the
//           activation h_n, or where the layer has lines what its line misses of it, times |W_down[n]|
//   core    CoreInfer (arXiv 2410.18311): a token's core neurons are the kTokenCore of a shard with the largest |h_n|;
//           a neuron's score is the number of tokens whose core it is in
// The `share` with the highest scores is chosen, the lower index first among equals. Scores are summed in order of
// positions, so chunks of the prompt do not matter.
#include <cstdint>
#include <span>
#include <vector>

#include "core/engine/step_plan.h"
#include "core/engine/weights.h"
#include "kernels/tensor.h"

namespace pleat {

constexpr double kTokenCore = 0.4;

class PromptSelection {
 public:
  // For sequences in slots [0, slots).
  PromptSelection(const std::vector<LayerWeights>& layers, int slots);

  // Prompt rows of one layer, of each sequence in order of positions.   values [rows, neurons]; norms [rows], |h| of
  // all ranks' neurons (selection prompt).
  void add(int layer, const StepPlan& plan, std::span<const StepRow> rows, MatrixView<const float> values,
           const float* norms);
  // What the rows' sequences chose; replaces the selection's content.
  void select(Context& ctx, int layer, const StepPlan& plan, std::span<const StepRow> rows, Selection& selection) const;

 private:
  struct Layer {
    LayerFoldSpec spec;
    std::vector<int64_t> shards;  // offsets of neurons
    std::vector<float> scores;    // [slots, neurons]
    std::vector<uint8_t> chosen;  // [slots, neurons]
    int64_t neurons() const { return shards.empty() ? 0 : shards.back(); }
  };
  void add_token_cores(const Layer& layer, const float* values, float* scores);
  void choose(const Layer& layer, const float* scores, uint8_t* chosen);

  std::vector<Layer> layers_;     // empty ones where the selection is another
  std::vector<int32_t> work_;     // [neurons]
  std::vector<float> magnitude_;  // [neurons]
};

}  // namespace pleat
