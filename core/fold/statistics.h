#pragma once
// One streaming pass over the calibration text: what the fold needs of every layer's FFN input, in memory that does not
// depend on the text's length.
#include <cstdint>
#include <vector>

#include "core/engine/engine.h"
#include "core/fold/products.h"

namespace pleat {

// Of one layer: the sum of x x^T over all tokens (position 0 included: GPTQ must know the attention sink's massive
// activations), and a sample of rows spread evenly over the tokens (position 0 left out: it never runs folded).
struct LayerStatistics {
  std::vector<double> second_moment;  // [d, d]
  std::vector<float> largest;         // |x| [d], position 0 included
  Table sample;                       // [rows, d], the same tokens in every layer
};

class Statistics : public FfnHook {
 public:
  // tokens: how many tokens off position 0 will be seen; the sample holds the lesser of them and sample_rows.
  Statistics(Context& ctx, int layers, int64_t hidden, int64_t tokens, int64_t sample_rows);
  void ffn(int layer, const StepPlan& plan, MatrixView<const float> x, MatrixView<float> y) override;

  const LayerStatistics& layer(int layer) const { return layers_[size_t(layer)].statistics; }
  int64_t sample_rows() const { return sample_rows_; }

 private:
  struct Layer {
    LayerStatistics statistics;
    int64_t seen = 0;  // tokens off position 0
    int64_t kept = 0;
  };
  Context& ctx_;
  int64_t tokens_, sample_rows_;
  std::vector<Layer> layers_;
};

}  // namespace pleat
