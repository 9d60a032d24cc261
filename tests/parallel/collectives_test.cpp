// The collectives, with ranks as threads of this process.
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <thread>

#include "kernels/check.h"
#include "parallel/self_communicator.h"
#include "parallel/thread_communicator.h"

namespace pleat {
namespace {

using namespace std::chrono_literals;

// Leaf values whose sum depends on the order of the additions: signs, sizes and fractions of all kinds.
float leaf_value(int leaf, int64_t column) {
  uint64_t bits = (uint64_t(leaf) * 1000003 + uint64_t(column)) * 0x9e3779b97f4a7c15ull;
  bits ^= bits >> 29;
  bits *= 0xbf58476d1ce4e5b9ull;
  const double fraction = double(bits >> 40) / double(1 << 24) - 0.5;
  return float(std::ldexp(fraction, int(bits % 25) - 12));
}

// The node's sum by the definition of the tree, one column.
float tree_sum(TreeNode node, int64_t column) {
  if (node.leaves() == 1) return leaf_value(node.begin, column);
  return tree_sum({node.begin, node.middle()}, column) + tree_sum({node.middle(), node.end}, column);
}

std::vector<float> partial_sums(const TreeExchange& exchange, int rank, int64_t n) {
  std::vector<float> sums;
  for (const TreeNode& node : exchange.nodes[rank]) {
    for (int64_t column = 0; column < n; ++column) sums.push_back(tree_sum(node, column));
  }
  return sums;
}

std::vector<float> tree_sums(int leaves, int64_t n) {
  std::vector<float> sums(n);
  for (int64_t column = 0; column < n; ++column) sums[column] = tree_sum({0, leaves}, column);
  return sums;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST(Collectives, TreeSumsHaveTheSameBitsOnEveryRankAndForEveryNumberOfRanks) {
  for (const int leaves : {25, 32, 3}) {
    const std::vector<float> expected = tree_sums(leaves, 321);
    for (int ranks = 1; ranks <= 7; ++ranks) {
      run_ranks(ranks, [&](Communicator& communicator) {
        const TreeExchange exchange(leaves, ranks);
        for (int repeat = 0; repeat < 5; ++repeat) {
          std::vector<float> out(321);
          communicator.tree_all_reduce("ffn", exchange, partial_sums(exchange, communicator.rank(), 321).data(), 321,
                                       out.data());
          EXPECT_TRUE(same_bits(out, expected)) << leaves << " leaves, " << ranks << " ranks";
        }
      });
    }
  }
}

TEST(Collectives, LongMessagesTravelInRoundsAndEachRankAddsItsColumns) {
  for (const auto& [leaves, columns] : {std::pair(5, 150'001), std::pair(25, 20'001)}) {
    const std::vector<float> expected = tree_sums(leaves, columns);
    for (const int ranks : {2, 3, 7}) {
      run_ranks(ranks, [&, leaves = leaves, columns = columns](Communicator& communicator) {
        const TreeExchange exchange(leaves, ranks);
        std::vector<float> out(columns);
        communicator.tree_all_reduce("ffn", exchange, partial_sums(exchange, communicator.rank(), columns).data(),
                                     columns, out.data());
        EXPECT_TRUE(same_bits(out, expected)) << ranks << " ranks";
      });
    }
  }
}

TEST(Collectives, TwoTreesInOneMessageGiveTheSumOfTheirSums) {
  for (const int64_t n : {321, 70000}) {
    std::vector<float> expected = tree_sums(7, n);
    const std::vector<float> second = tree_sums(32, n);
    for (int64_t i = 0; i < n; ++i) expected[i] += second[i];
    for (int ranks : {1, 2, 3, 7, 9}) {  // 9: two ranks have nothing of the first tree
      run_ranks(ranks, [&](Communicator& communicator) {
        const TreeExchange first(7, ranks), other(32, ranks), both = TreeExchange::joint(first, other);
        std::vector<float> mine = partial_sums(first, communicator.rank(), n);
        const std::vector<float> more = partial_sums(other, communicator.rank(), n);
        mine.insert(mine.end(), more.begin(), more.end());
        std::vector<float> out(n);
        communicator.tree_all_reduce("both", both, mine.data(), n, out.data());
        EXPECT_TRUE(same_bits(out, expected)) << ranks << " ranks";
      });
    }
  }
}

TEST(Collectives, TheSumMayReplaceWhatTheRankGave) {
  const std::vector<float> expected = tree_sums(25, 1000);
  run_ranks(3, [&](Communicator& communicator) {
    const TreeExchange exchange(25, 3);
    std::vector<float> values = partial_sums(exchange, communicator.rank(), 1000);
    communicator.tree_all_reduce("ffn", exchange, values.data(), 1000, values.data());
    values.resize(1000);
    EXPECT_TRUE(same_bits(values, expected));
  });
}

TEST(Collectives, OneSumARankAddsThePiecesOfAllRanksThatHaveAny) {
  run_ranks(5, [&](Communicator& communicator) {
    const TreeExchange exchange = TreeExchange::one_sum_a_rank(3, 5);
    const std::vector<float> mine(exchange.nodes[communicator.rank()].size() * 10, float(1 << communicator.rank()));
    float expected = 0;
    for (int rank = 0; rank < 5; ++rank) expected += exchange.nodes[rank].empty() ? 0 : float(1 << rank);
    std::vector<float> out(10);
    communicator.tree_all_reduce("ffn", exchange, mine.data(), 10, out.data());
    EXPECT_EQ(out, std::vector<float>(10, expected));
  });
}

TEST(Collectives, GatheredPartsStandInRankOrderAndMayBeEmptyOrLong) {
  for (int ranks = 1; ranks <= 5; ++ranks) {
    run_ranks(ranks, [&](Communicator& communicator) {
      std::vector<int64_t> counts;
      std::vector<std::byte> expected;
      for (int rank = 0; rank < ranks; ++rank) {
        counts.push_back(rank % 2 ? 0 : (rank == 2 ? 1'300'000 : 5 + rank));
        expected.insert(expected.end(), size_t(counts[rank]), std::byte(rank + 1));
      }
      const std::vector<std::byte> mine(size_t(counts[communicator.rank()]), std::byte(communicator.rank() + 1));
      std::vector<std::byte> all(expected.size());
      communicator.all_gather("tokens", mine, counts, all.data());
      EXPECT_EQ(all, expected);

      std::vector<std::byte> root(communicator.rank() == 0 ? expected.size() : 0);
      communicator.gather("logits", mine, counts, communicator.rank() == 0 ? root.data() : nullptr);
      if (communicator.rank() == 0) {
        EXPECT_EQ(root, expected);
      }
    });
  }
}

TEST(Collectives, EveryRankReceivesRankZerosBytes) {
  for (const size_t size : {size_t(0), size_t(17), size_t(1'200'000)}) {
    run_ranks(4, [&](Communicator& communicator) {
      std::vector<std::byte> bytes(size, std::byte(communicator.rank() == 0 ? 42 : 0));
      communicator.broadcast("plan", bytes);
      EXPECT_EQ(bytes, std::vector<std::byte>(size, std::byte(42)));
      communicator.barrier("end");
    });
  }
}

TEST(Collectives, RanksAgreeOnTheSmallestValue) {
  run_ranks(4, [](Communicator& communicator) {
    EXPECT_EQ(communicator.agree_min("instruction set", 7 - communicator.rank()), 4);
  });
  SelfCommunicator self;
  EXPECT_EQ(self.agree_min("instruction set", 2), 2);
}

TEST(Collectives, CountTimeAndBytesAndLeaveTheirNameInTheLedger) {
  SelfCommunicator self;
  const TreeExchange exchange(32, 1);
  std::vector<float> values(100);
  self.ledger().set_phase("loading");
  EXPECT_EQ(describe(self.ledger()), "while loading");
  self.at(12, 3);
  self.tree_all_reduce("ffn", exchange, values.data(), 100, values.data());
  EXPECT_EQ(self.bytes_sent(), 400);
  EXPECT_GT(self.seconds(), 0);
  EXPECT_EQ(describe(self.ledger()), "in step 12, layer 3, after collective 'ffn'");
  self.ledger().enter("attention", 6400);
  EXPECT_EQ(describe(self.ledger()), "in step 12, layer 3, collective 'attention' (6400 bytes)");
}

// Runs three ranks of which rank 1 stays away from the second collective, and returns what the others say.
std::string say_who_is_late(std::chrono::milliseconds timeout, const std::function<void(Communicator&)>& stay_away) {
  try {
    run_ranks(3, [&](Communicator& communicator) {
      communicator.set_timeout(timeout);
      communicator.at(12, 3);
      communicator.barrier("attention");
      if (communicator.rank() == 1) return stay_away(communicator);
      communicator.barrier("ffn");
    });
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::peer_lost);
    return error.what();
  }
  return "nobody is late";
}

TEST(Collectives, NameTheLateRankAndItsPlaceWithinTheDeadline) {
  const auto start = std::chrono::steady_clock::now();
  const std::string line = say_who_is_late(300ms, [](Communicator&) {});
  EXPECT_LT(std::chrono::steady_clock::now() - start, 2s);
  EXPECT_NE(line.find("rank 1 (host this process, pid "), std::string::npos) << line;
  EXPECT_NE(line.find("is late: last seen in step 12, layer 3, after collective 'attention'; rank "), std::string::npos)
      << line;
  EXPECT_NE(line.find("in step 12, layer 3, collective 'ffn'"), std::string::npos) << line;
}

TEST(Collectives, WaitBeyondTheDeadlineForARankThatBeats) {
  const std::string line = say_who_is_late(200ms, [](Communicator& communicator) {
    for (int i = 0; i < 15; ++i) {
      std::this_thread::sleep_for(40ms);
      communicator.ledger().beat();
    }
    communicator.barrier("ffn");
  });
  EXPECT_EQ(line, "nobody is late");
}

TEST(Collectives, StaySilentAboutARankWhoseGuardianHasSpoken) {
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(say_who_is_late(60s, [](Communicator& communicator) { communicator.ledger().lost = 1; }), "");
  EXPECT_LT(std::chrono::steady_clock::now() - start, 2s);
}

TEST(Collectives, WaitingForALateRankIsCountedApartFromTheRest) {
  run_ranks(3, [](Communicator& communicator) {
    communicator.barrier("start");
    const double before = communicator.wait_seconds();
    if (communicator.rank() == 1) std::this_thread::sleep_for(200ms);
    communicator.barrier("end");
    const double waited = communicator.wait_seconds() - before;
    EXPECT_TRUE(communicator.rank() == 1 ? waited < 0.1 : waited > 0.1) << waited;
    EXPECT_GE(communicator.seconds(), communicator.wait_seconds());
  });
}

}  // namespace
}  // namespace pleat
