#pragma once
// Runs the engine on thread ranks for tests.
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "core/engine/engine.h"
#include "kernels/attention.h"
#include "parallel/self_communicator.h"
#include "parallel/thread_communicator.h"

namespace pleat::test {

inline std::string embedded_model() { return std::string(PLEAT_SOURCE_DIR) + "/models/pleat-gpt2-9m"; }
inline std::string fixture(const std::string& name) {
  return std::string(PLEAT_SOURCE_DIR) + "/tests/fixtures/" + name;
}

// Loads `folder` on `ranks` thread ranks; rank 0 runs drive(engine, communicator), then the others are told to stop.
inline void with_engine(const std::string& folder, int ranks, const LoadOptions& options,
                        const std::function<void(Engine&, Communicator&)>& drive) {
  run_ranks(ranks, [&](Communicator& communicator) {
    LoadedModel model = load_model(folder, communicator, options);
    if (communicator.rank() != 0) return serve_steps(*model.engine, communicator);
    drive(*model.engine, communicator);
    StepPlan stop;
    stop.stop = true;
    broadcast_plan(communicator, stop);
  });
}

// Any tokens of the embedded model's vocabulary.
inline std::vector<int32_t> some_tokens(int count, int salt) {
  std::vector<int32_t> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back((i * 2654435761u + unsigned(salt) * 97u) % 4096u);
  return tokens;
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// One sequence's rows [begin, end) of `tokens`, the cache's pages in order from `first_page`.
inline void append_rows(StepPlan& plan, const std::vector<int32_t>& tokens, int begin, int end, bool folded,
                        int first_page = 0) {
  for (int position = begin; position < end; ++position)
    plan.rows.push_back(
        {tokens[size_t(position)], position, int32_t(plan.page_tables.size()), folded && position > 0, 1});
  std::vector<int32_t> pages;
  for (int page = 0; page * kPageTokens < end; ++page) pages.push_back(first_page + page);
  plan.slots.push_back(int32_t(plan.page_tables.size()));
  plan.page_tables.push_back(pages);
}

// Logits of every row of the plan.
inline std::vector<float> run_step(Engine& engine, Communicator& communicator, StepPlan plan) {
  plan.logits = LogitsMode::full;
  broadcast_plan(communicator, plan);
  engine.step(plan);
  const MatrixView<const float> logits = engine.logits();
  return {logits.data, logits.data + logits.rows * logits.cols};
}

// Logits of all tokens of one sequence, `chunk` rows a step.
inline std::vector<float> run_tokens(Engine& engine, Communicator& communicator, const std::vector<int32_t>& tokens,
                                     int chunk, bool folded) {
  std::vector<float> all;
  for (int begin = 0; begin < int(tokens.size()); begin += chunk) {
    StepPlan plan;
    append_rows(plan, tokens, begin, std::min(int(tokens.size()), begin + chunk), folded);
    const std::vector<float> part = run_step(engine, communicator, plan);
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

}  // namespace pleat::test
