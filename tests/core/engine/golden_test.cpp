// The embedded model against Hugging Face's float32 logits (fixtures/pleat-gpt2-9m-golden.json).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/core/engine/run.h"

namespace pleat::test {
namespace {

class Golden : public testing::Test {
 protected:
  void SetUp() override {
    std::ifstream(fixture("pleat-gpt2-9m-golden.json")) >> golden_;
    ids_ = golden_["first_ids"].get<std::vector<int32_t>>();
  }
  std::vector<float> run(WeightFormat dtype, int ranks) {
    std::vector<float> logits;
    LoadOptions options;
    options.dtype = dtype;
    with_engine(embedded_model(), ranks, options,
                [&](Engine& engine, Communicator& c) { logits = run_tokens(engine, c, ids_, 48, false); });
    return logits;
  }
  nlohmann::json golden_;
  std::vector<int32_t> ids_;
};

TEST_F(Golden, LogitsInF32AreHuggingFacesOnAnyNumberOfRanks) {
  const auto columns = golden_["logit_columns"].get<std::vector<int>>();
  for (int ranks : {1, 3}) {
    const std::vector<float> logits = run(WeightFormat::f32, ranks);
    ASSERT_EQ(logits.size(), ids_.size() * 4096);
    double worst = 0;
    for (size_t row = 0; row < ids_.size(); ++row) {
      double sum = 0;
      for (size_t i = 0; i < 4096; ++i) sum += std::exp(double(logits[row * 4096 + i]));
      worst = std::max(worst, std::abs(std::log(sum) - golden_["logsumexp"][row].get<double>()));
      for (size_t i = 0; i < columns.size(); ++i)
        worst = std::max(
            worst, std::abs(double(logits[row * 4096 + size_t(columns[i])]) - golden_["logits"][row][i].get<double>()));
    }
    EXPECT_LE(worst, 2e-4) << ranks << " ranks";
  }
}

TEST_F(Golden, BestTokensInBf16AreHuggingFaces) {
  const std::vector<float> logits = run(WeightFormat::bf16, 1);
  for (size_t row = 0; row < ids_.size(); ++row) {
    const auto begin = logits.begin() + int64_t(row * 4096);
    EXPECT_EQ(std::max_element(begin, begin + 4096) - begin, golden_["argmax"][row].get<int64_t>()) << "row " << row;
  }
}

TEST_F(Golden, GreedyContinuationsInF32AreHuggingFaces) {
  LoadOptions options;
  options.dtype = WeightFormat::f32;
  with_engine(embedded_model(), 2, options, [&](Engine& engine, Communicator& c) {
    for (const auto& item : golden_["greedy"]) {
      std::vector<int32_t> tokens = item["prompt_ids"].get<std::vector<int32_t>>();
      const size_t prompt = tokens.size();
      for (int done = 0; tokens.size() < prompt + item["ids"].size();) {
        StepPlan plan;
        append_rows(plan, tokens, done, int(tokens.size()), false);
        done = int(tokens.size());
        for (StepRow& row : plan.rows) row.wants_logits = &row == &plan.rows.back();
        plan.logits = LogitsMode::argmax;
        broadcast_plan(c, plan);
        engine.step(plan);
        tokens.push_back(engine.best_tokens()[0]);
      }
      EXPECT_EQ(std::vector<int32_t>(tokens.begin() + int64_t(prompt), tokens.end()),
                item["ids"].get<std::vector<int32_t>>());
    }
  });
}

}  // namespace
}  // namespace pleat::test
