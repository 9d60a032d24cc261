#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace pleat {

// An order of neurons (new place -> old index) in which each of the `shards` contiguous parts [h*s/shards,
// h*(s+1)/shards) has nearly the same summed work: the heaviest first, each to the part with the least work that still
// has room. Within a part the heaviest come first too: rows that are often gathered lie together, in longer runs.
std::vector<int32_t> balanced_order(std::span<const double> work, int shards);

}  // namespace pleat
