#include "core/fold/statistics.h"

#include <algorithm>

#include "core/fold/input_moments.h"

namespace pleat {

Statistics::Statistics(Context& ctx, int layers, int64_t hidden, int64_t tokens, int64_t sample_rows)
    : ctx_(ctx), tokens_(tokens), sample_rows_(std::min(tokens, sample_rows)), layers_(size_t(layers)) {
  for (Layer& layer : layers_) {
    layer.statistics.second_moment.resize(size_t(hidden * hidden));
    layer.statistics.largest.resize(size_t(hidden));
    layer.statistics.sample = Table(sample_rows_, hidden);
  }
}

void Statistics::ffn(int index, const StepPlan& plan, MatrixView<const float> x, MatrixView<float> y) {
  Layer& layer = layers_[size_t(index)];
  take_largest(x, index, layer.statistics.largest);
  require_finite(y, index);
  add_second_moment(ctx_, x, layer.statistics.second_moment);
  for (int64_t row = 0; row < x.rows; ++row) {
    if (plan.rows[size_t(row)].position == 0) continue;
    const int64_t before = layer.seen * sample_rows_ / tokens_, after = ++layer.seen * sample_rows_ / tokens_;
    if (after > before && layer.kept < sample_rows_) std::copy_n(x[row], x.cols, layer.statistics.sample[layer.kept++]);
  }
}

}  // namespace pleat
