#pragma once
// The model of a folder run densely, as prompts are, over whole windows of text with a hook on its FFNs.
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/engine/engine.h"
#include "core/text/tokenizer.h"
#include "parallel/self_communicator.h"

namespace pleat {

using Window = std::vector<int32_t>;

constexpr int64_t kFewestTokens = 1024;  // to calibrate on: below, ranges and GPTQ's moments are noise

int64_t tokens_of(const std::vector<Window>& windows);

// Windows of at most `window` tokens (a last incomplete one of at least 2 counts), each with the special tokens in
// front that the model expects of a text, spread evenly over the text when `max_tokens` (0: all; rounded up to whole
// windows) is less than they have. Error(invalid) if the text gives no window.
std::vector<Window> spread_windows(const Tokenizer& tokenizer, const std::string& text_file, int64_t window,
                                   int64_t max_tokens);
// The same; Error(invalid) if they hold fewer than kFewestTokens.
std::vector<Window> calibration_windows(const Tokenizer& tokenizer, const std::string& text_file, int64_t window,
                                        int64_t max_tokens);

class DenseModel {
 public:
  DenseModel(const std::string& folder, WeightFormat dtype, int threads, bool oversubscribed);

  const Blueprint& blueprint() const { return loaded_.blueprint; }
  Context& context() { return *loaded_.context; }
  int64_t window() const { return window_; }  // tokens a window may have

  // Every position's logits [window, vocab], valid until the next run; empty unless asked for.
  MatrixView<const float> run(std::span<const int32_t> window, FfnHook* hook, bool want_logits);
  // The same from layer `first` on, x [window, d] being the residual stream in front of it.
  MatrixView<const float> resume(std::span<const int32_t> window, int first, MatrixView<const float> x, FfnHook* hook);
  // `observer` sees every stage of the runs from here on; nullptr: nobody.
  void set_observer(StageObserver* observer) { loaded_.engine->set_observer(observer); }

 private:
  SelfCommunicator communicator_;
  LoadedModel loaded_;
  int64_t window_ = 0;
  StepPlan plan_for(std::span<const int32_t> window, bool want_logits);
  int64_t step_ = 0;
};

}  // namespace pleat
