#include <algorithm>
#include <utility>

#include "kernels/check.h"
#include "kernels/neuron_rows.h"

namespace pleat {

Selection::Selection(std::vector<int64_t> leaf_offsets_) : leaf_offsets(std::move(leaf_offsets_)) {
  PLEAT_ASSERT(!leaf_offsets.empty() && leaf_offsets.front() == 0, leaf_offsets.size(), " offsets");
  PLEAT_ASSERT(std::is_sorted(leaf_offsets.begin(), leaf_offsets.end()));
  neuron.resize(size_t(leaf_offsets.back()));
  rows.resize(neuron.size());
  leaf_begin.resize(leaf_offsets.size());
}

void Selection::clear() { std::fill(leaf_begin.begin(), leaf_begin.end(), 0); }

int64_t Selection::row_count(int row) const {
  int64_t n = 0;
  for (int64_t i = 0; i < count(); ++i) n += rows[i] >> row & 1;
  return n;
}

}  // namespace pleat
