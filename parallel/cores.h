#pragma once
// The cores a process may run on.
#include <bitset>

namespace pleat {

using CoreSet = std::bitset<1024>;

CoreSet cores_of_process(int pid);  // 0: this one. Empty when unknown.

}  // namespace pleat
