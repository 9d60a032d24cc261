#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "parallel/waiting.h"

namespace pleat {
namespace {

// As by a process that is stopped: while it spins, yields or sleeps.
TEST(Backoff, BeginsAnewWhereTheProcessWasStopped) {
  for (const int steps : {1, 250, 2000}) {
    Backoff wait(true);
    for (int i = 0; i < steps; ++i) wait.step();
    EXPECT_LE(wait.start_ns(), steady_ns());
    std::this_thread::sleep_for(std::chrono::milliseconds(1100));
    const int64_t continued = steady_ns();
    while (!wait.long_wait()) wait.step();
    wait.step();
    EXPECT_GE(wait.start_ns(), continued) << steps;
  }
}

}  // namespace
}  // namespace pleat
