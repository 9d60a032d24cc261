#include "core/fold/dense_model.h"

#include <algorithm>
#include <numeric>

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/file.h"
#include "kernels/attention.h"
#include "kernels/check.h"

namespace pleat {
namespace {

constexpr int64_t kLongestWindow = 512;

LoadedModel load_for_windows(const std::string& folder, Communicator& communicator, WeightFormat dtype, int threads,
                             bool oversubscribed) {
  LoadOptions options;
  options.dtype = dtype;
  options.threads = threads;
  options.oversubscribed = oversubscribed;
  options.engine.max_rows = options.engine.max_logit_rows = int(kLongestWindow);
  options.engine.kv_tokens = kLongestWindow;
  return load_model(folder, communicator, options);
}

}  // namespace

int64_t tokens_of(const std::vector<Window>& windows) {
  int64_t tokens = 0;
  for (const Window& window : windows) tokens += int64_t(window.size());
  return tokens;
}

std::vector<Window> spread_windows(const Tokenizer& tokenizer, const std::string& text_file, int64_t window,
                                   int64_t max_tokens) {
  const std::vector<int32_t> tokens = tokenizer.encode(read_whole(text_file));
  const int64_t total = int64_t(tokens.size());
  PLEAT_REQUIRE(total >= 2, "the text '", text_file, "' has ", total, " tokens, at least 2 are needed");
  const Window& leading = tokenizer.leading_special();
  const int64_t part = window - int64_t(leading.size());  // of the text
  PLEAT_REQUIRE(part > 0, "a window of ", window, " tokens has no room behind the ", leading.size(),
                " that every text begins with");
  std::vector<Window> windows;
  const int64_t available = (total + part - 1) / part;
  const int64_t wanted = max_tokens > 0 ? std::min((max_tokens + window - 1) / window, available) : available;
  for (int64_t i = 0; i < wanted; ++i) {
    const int64_t begin = i * available / wanted * part, end = std::min(begin + part, total);
    Window one = leading;
    one.insert(one.end(), tokens.begin() + begin, tokens.begin() + end);
    if (one.size() >= 2) windows.push_back(std::move(one));
  }
  return windows;
}

std::vector<Window> calibration_windows(const Tokenizer& tokenizer, const std::string& text_file, int64_t window,
                                        int64_t max_tokens) {
  std::vector<Window> windows = spread_windows(tokenizer, text_file, window, max_tokens);
  const int64_t tokens = tokens_of(windows);
  if (tokens >= kFewestTokens) return windows;
  const int64_t all = tokens_of(spread_windows(tokenizer, text_file, window, 0));
  PLEAT_REQUIRE(all < kFewestTokens, "--max-tokens takes ", tokens, " tokens of the text '", text_file, "', at least ",
                kFewestTokens, " are needed to calibrate");
  throw Error(ErrorKind::invalid, concat("the text '", text_file, "' has ", all, " tokens, at least ", kFewestTokens,
                                         " are needed to calibrate"));
}

DenseModel::DenseModel(const std::string& folder, WeightFormat dtype, int threads, bool oversubscribed)
    : loaded_(load_for_windows(folder, communicator_, dtype, threads, oversubscribed)),
      window_(std::min(kLongestWindow, loaded_.blueprint.max_positions)) {}

StepPlan DenseModel::plan_for(std::span<const int32_t> window, bool want_logits) {
  StepPlan plan;
  plan.step = step_++;
  plan.logits = want_logits ? LogitsMode::full : LogitsMode::none;
  for (size_t i = 0; i < window.size(); ++i)
    plan.rows.push_back({window[i], int32_t(i), 0, 0, uint8_t(want_logits), uint8_t(i + 1 == window.size())});
  plan.slots = {0};
  std::vector<int32_t>& pages = plan.page_tables.emplace_back((window.size() + kPageTokens - 1) / kPageTokens);
  std::iota(pages.begin(), pages.end(), 0);
  return plan;
}

MatrixView<const float> DenseModel::run(std::span<const int32_t> window, FfnHook* hook, bool want_logits) {
  Engine& engine = *loaded_.engine;
  engine.set_ffn_hook(hook);
  engine.step(plan_for(window, want_logits));
  engine.set_ffn_hook(nullptr);
  return want_logits ? engine.logits() : MatrixView<const float>{};
}

MatrixView<const float> DenseModel::resume(std::span<const int32_t> window, int first, MatrixView<const float> x,
                                           FfnHook* hook) {
  Engine& engine = *loaded_.engine;
  engine.set_ffn_hook(hook);
  engine.resume(plan_for(window, true), first, x);
  engine.set_ffn_hook(nullptr);
  return engine.logits();
}

}  // namespace pleat
