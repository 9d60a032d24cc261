#pragma once
// Second moments of the inputs of a model's matrices over a text: what GPTQ weighs errors by.
#include <map>
#include <string>
#include <vector>

#include "core/engine/engine.h"
#include "core/fold/products.h"

namespace pleat {

// The stage of the engine whose value a matrix multiplies, in a layer (-1: after the layers).
struct InputStage {
  std::string name;
  int layer = 0;
  auto operator<=>(const InputStage&) const = default;
};

// The few inputs whose largest |x| is over 20 times the median one's, at most 8, ascending: they stay in bf16
// (method.md section 5, the trap).
std::vector<int32_t> extreme_inputs(const std::vector<float>& largest);

// Error(invalid) naming the layer where a value is no finite number: nothing fitted to it would be one.
void require_finite(MatrixView<const float> x, int layer);
// largest [x.cols]: takes in the |x| of all rows, which must be finite.
void take_largest(MatrixView<const float> x, int layer, std::vector<float>& largest);

// Sums x x^T [width, width] and the largest |x| [width] over the rows of the wanted stages, position 0 included.
class InputMoments : public StageObserver {
 public:
  explicit InputMoments(Context& ctx) : ctx_(ctx) {}
  void want(const InputStage& stage, int64_t width) {
    sums_[stage].resize(size_t(width * width));
    largest_[stage].resize(size_t(width));
  }
  void stage(const char* name, int layer, MatrixView<const float> value) override {
    const auto it = sums_.find({name, layer});
    if (it == sums_.end()) return;
    take_largest(value, layer, largest_[it->first]);
    add_second_moment(ctx_, value, it->second);
  }
  bool has(const InputStage& stage) const { return sums_.contains(stage); }
  const std::vector<double>& of(const InputStage& stage) const { return sums_.at(stage); }
  const std::vector<float>& largest(const InputStage& stage) const { return largest_.at(stage); }

 private:
  Context& ctx_;
  std::map<InputStage, std::vector<double>> sums_;
  std::map<InputStage, std::vector<float>> largest_;
};

}  // namespace pleat
