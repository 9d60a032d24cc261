#include "kernels/thread_team.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <numeric>
#include <thread>
#include <vector>

#include "kernels/check.h"

namespace pleat {
namespace {

// Where stacks have no room.
TEST(ThreadTeam, ThatCannotBeStartedIsOneSentence) {
  const auto start = [] {
    std::ifstream pages("/proc/self/statm");
    rlim_t size = 0;
    pages >> size;
    const rlim_t limit = size * rlim_t(sysconf(_SC_PAGESIZE)) + (rlim_t(64) << 20);
    const rlimit no_more{limit, limit};
    setrlimit(RLIMIT_AS, &no_more);
    try {
      ThreadTeam(400, true);
    } catch (const Error& error) {
      std::cerr << error.what();
      std::_Exit(error.kind() == ErrorKind::failed ? 3 : 4);
    }
    std::_Exit(0);
  };
  EXPECT_EXIT(start(), testing::ExitedWithCode(3), "cannot start 400 threads: ");
}

class ThreadTeams : public testing::TestWithParam<std::pair<int, bool>> {
 protected:
  ThreadTeam team{GetParam().first, GetParam().second};
  int threads = GetParam().first;
};

TEST_P(ThreadTeams, EveryMemberWorksOnceARound) {
  std::vector<int> calls(threads);
  for (int round = 0; round < 2000; ++round) team.run([&](int member) { ++calls[member]; });
  EXPECT_EQ(calls, std::vector<int>(threads, 2000));
}

TEST_P(ThreadTeams, TheCallerIsMemberZeroAndSeesWhatTheOthersWrote) {
  std::vector<std::thread::id> ids(threads);
  team.run([&](int member) { ids[member] = std::this_thread::get_id(); });
  EXPECT_EQ(ids[0], std::this_thread::get_id());
  for (int member = 1; member < threads; ++member) EXPECT_NE(ids[member], ids[0]);
}

TEST_P(ThreadTeams, SplitCoversEverythingOnceInContiguousParts) {
  for (int64_t count : {0, 1, 2, 7, 1000}) {
    std::vector<int> seen(count);
    team.split(count, [&](int, int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) ++seen[i];
    });
    EXPECT_EQ(seen, std::vector<int>(count, 1));
  }
}

TEST_P(ThreadTeams, EachHandsOutEverythingOnce) {
  std::vector<int> seen(500);
  for (int round = 0; round < 20; ++round) team.each(500, [&](int, int64_t index) { ++seen[index]; });
  EXPECT_EQ(seen, std::vector<int>(500, 20));
}

TEST_P(ThreadTeams, MembersThatFellAsleepWakeUpAgain) {
  std::atomic<int> calls{0};
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    team.run([&](int) { ++calls; });
  }
  EXPECT_EQ(calls, 5 * threads);
}

TEST_P(ThreadTeams, TheCallerWaitsForASlowMember) {
  std::vector<int> done(threads);
  team.run([&](int member) {
    if (member > 0) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    done[member] = 1;
  });
  EXPECT_EQ(done, std::vector<int>(threads, 1));
  EXPECT_EQ(team.barriers(), threads > 1 ? 1 : 0);
  EXPECT_GE(team.barrier_seconds(), threads > 1 ? 0.015 : 0);
}

INSTANTIATE_TEST_SUITE_P(Sizes, ThreadTeams,
                         testing::Values(std::pair{1, false}, std::pair{2, false}, std::pair{2, true},
                                         std::pair{5, true}));

TEST(ThreadTeam, NeedsAThread) { EXPECT_THROW(ThreadTeam(0, false), Error); }

}  // namespace
}  // namespace pleat
