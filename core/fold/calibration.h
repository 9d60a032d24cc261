#pragma once
// What the offline passes know of a model's layers from a calibration text.
#include <functional>
#include <memory>
#include <vector>

#include "core/fold/dense_model.h"
#include "core/fold/ffn_quantiser.h"
#include "core/fold/input_moments.h"
#include "core/fold/statistics.h"

namespace pleat {

class Calibration {
 public:
  // Runs the text; `done` is called with the share of it.
  Calibration(DenseModel& model, std::vector<Window> windows, const std::function<void(double)>& done);

  const std::vector<Window>& windows() const { return windows_; }
  int64_t tokens() const { return tokens_; }
  int64_t sample_rows() const { return statistics_->sample_rows(); }
  const LayerStatistics& layer(int layer) const { return statistics_->layer(layer); }

  // For GPTQ of the layer's FFN. Those of as many layers as fit come with the statistics, of others by one more pass
  // over the text.
  FfnMoments moments(int layer);

 private:
  void want_moments(int layer);
  void run(FfnHook* hook, const std::function<void(double)>& done);

  DenseModel& model_;
  std::vector<Window> windows_;
  int64_t tokens_ = 0;
  std::unique_ptr<Statistics> statistics_;
  std::unique_ptr<InputMoments> neurons_;
};

}  // namespace pleat
