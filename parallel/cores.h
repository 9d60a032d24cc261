#pragma once
// The cores a process may run on.
#include <bitset>
#include <vector>

namespace pleat {

using CoreSet = std::bitset<1024>;  // of hardware threads, by the system's number

CoreSet cores_of_process(int pid);  // 0: this one. Empty when unknown.

// The hardware threads of each core together, the cores of a socket one after another.
std::vector<CoreSet> whole_cores(const CoreSet& usable);

// The part of `cores` that is left for the `index`th of `ranks` when they share them evenly, neighbours first; all of
// them where there are fewer cores than ranks.
CoreSet share_of_cores(const std::vector<CoreSet>& cores, int index, int ranks);

// This process's threads, from now on. Error where the system refuses.
void run_on(const CoreSet& cores);

}  // namespace pleat
