#pragma once
// What a change of one layer alone costs the model's output (method.md section 6: options are measured separately, only
// the layers above the changed one are computed again).
#include <vector>

#include "core/fold/dense_model.h"
#include "core/fold/layer_fold.h"
#include "core/fold/logit_comparison.h"

namespace pleat {

// A few windows of a text, spread evenly and cut short, as KL has little noise.
struct MeterWindows {
  std::vector<Window> windows;
  bool fitted = false;  // they are among those that are fitted on
};
// Of `all` that are not among `fit`; where that is all, they are taken out of it if it keeps `fewest` tokens then.
MeterWindows meter_windows(const std::vector<Window>& all, std::vector<Window>& fit, int64_t fewest);

class OptionMeter {
 public:
  // Runs the windows densely and keeps the residual stream in front of every layer.
  OptionMeter(DenseModel& model, std::vector<Window> windows);

  // KL of the dense model's next token from that of the model with one layer changed, nats a token, over the tokens
  // whose prediction it changes: prompt_rows() of a window run densely.
  double kl(int layer, const FoldedLayer& changed);
  // The same with all layers changed (nullptr: as it is); over no rows before `first`, to stand beside another's.
  double kl(const std::vector<const FoldedLayer*>& layers, int64_t first = 0);

 private:
  struct Run {
    Window window;
    std::vector<Table> streams;  // [layers] [window, d]
    DenseLogits logits;
  };
  double kl_from(int layer, const std::vector<const FoldedLayer*>& layers, int64_t first);

  DenseModel& model_;
  std::vector<Run> runs_;
};

}  // namespace pleat
