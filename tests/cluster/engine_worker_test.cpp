// The computing thread's side of a server.
#include "cluster/engine_worker.h"

#include <gtest/gtest.h>

#include <stdexcept>

#include "core/engine/batcher.h"
#include "tests/cluster/served_model.h"

namespace pleat::test {
namespace {

// Who asks meanwhile shall see that there is something to compute, or a step that never ends looks idle.
TEST(EngineWorker, CountsWhatItHasTakenBeforeItComputesThat) {
  const Tokenizer tokenizer = Tokenizer::open(embedded_model());
  Reports reports;
  std::optional<EngineCounts> during;
  BatchLimits limits;
  limits.vocab = tokenizer.vocab_size();
  limits.max_positions = 512;
  limits.pages = 64;
  Scheduler scheduler(limits, tokenizer, [&](StepPlan&) -> StepResult {
    during = reports.counts();
    throw std::runtime_error("the device hangs");
  });
  EngineWorker worker(reports, scheduler);
  EXPECT_EQ(reports.counts().waiting + reports.counts().running, 0);
  Request request;
  request.id = "a";
  request.prompt = {1, 2, 3};
  std::vector<Order> orders;
  orders.push_back(Submit{request});
  EXPECT_THROW(worker.turn(std::move(orders)), std::runtime_error);
  ASSERT_TRUE(during);
  EXPECT_EQ(during->waiting + during->running, 1);
}

}  // namespace
}  // namespace pleat::test
