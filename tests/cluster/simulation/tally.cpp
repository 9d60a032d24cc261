#include "tests/cluster/simulation/tally.h"

namespace pleat::test {

void Tally::add(const Tally& other) {
  worlds += other.worlds;
  whole += other.whole;
  moved += other.moved;
  refused += other.refused;
  left += other.left;
  called += other.called;
  faults += other.faults;
  turned_away += other.turned_away;
  late += other.late;
  slow += other.slow;
  too_large += other.too_large;
  if (broken.empty()) broken = other.broken;
}

}  // namespace pleat::test
