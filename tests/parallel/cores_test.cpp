// How the ranks of a host share its cores.
#include "parallel/cores.h"

#include <gtest/gtest.h>

namespace pleat::test {
namespace {

// Cores of two hardware threads, numbered as Linux does: c and c + many.
std::vector<CoreSet> make_cores(int many) {
  std::vector<CoreSet> cores(many);
  for (int core = 0; core < many; ++core) cores[core][core] = cores[core][core + many] = true;
  return cores;
}

TEST(Cores, ARankOfManyHasAnEvenPartOfItsOwn) {
  for (int many = 1; many <= 12; ++many) {
    for (int ranks = 1; ranks <= many; ++ranks) {
      CoreSet taken;
      for (int rank = 0; rank < ranks; ++rank) {
        const CoreSet share = share_of_cores(make_cores(many), rank, ranks);
        EXPECT_TRUE((share & taken).none()) << many << " cores, rank " << rank << " of " << ranks;
        EXPECT_GE(share.count(), size_t(2 * (many / ranks)));
        EXPECT_LE(share.count(), size_t(2 * (many / ranks + 1)));
        for (int core = 0; core < many; ++core) EXPECT_EQ(share[core], share[core + many]) << "half a core";
        taken |= share;
      }
      EXPECT_EQ(taken.count(), size_t(2 * many));
    }
  }
}

TEST(Cores, NeighboursStayTogether) { EXPECT_EQ(share_of_cores(make_cores(8), 1, 3).to_ulong(), 0b00011100'00011100u); }

TEST(Cores, MoreRanksThanCoresShareAll) { EXPECT_EQ(share_of_cores(make_cores(3), 4, 5).count(), 6u); }

TEST(Cores, ThisProcesssAreWholeAndAllThere) {
  const CoreSet usable = cores_of_process(0);
  ASSERT_TRUE(usable.any());
  CoreSet together;
  for (const CoreSet& core : whole_cores(usable)) {
    EXPECT_TRUE(core.any());
    EXPECT_TRUE((core & together).none());
    together |= core;
  }
  EXPECT_EQ(together, usable);
}

}  // namespace
}  // namespace pleat::test
