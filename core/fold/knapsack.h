#pragma once
// One option a layer under a budget of bytes (method.md section 6).
#include <cstddef>
#include <vector>

namespace pleat {

struct Priced {
  double bytes = 0;
  double cost = 0;
};

// [layers] index of the chosen option: the least summed cost with summed bytes at most `budget`. Bytes are rounded up
// to 1/1000 of the layers' mean budget. Empty where even the smallest options are more than the budget.
std::vector<size_t> choose_options(const std::vector<std::vector<Priced>>& layers, double budget);

}  // namespace pleat
