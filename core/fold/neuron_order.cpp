#include "core/fold/neuron_order.h"

#include <algorithm>
#include <numeric>

namespace pleat {

std::vector<int32_t> balanced_order(std::span<const double> work, int shards) {
  const int64_t h = int64_t(work.size());
  std::vector<int32_t> heaviest_first(work.size());
  std::iota(heaviest_first.begin(), heaviest_first.end(), 0);
  std::stable_sort(heaviest_first.begin(), heaviest_first.end(),
                   [&](int32_t a, int32_t b) { return work[size_t(a)] > work[size_t(b)]; });

  std::vector<std::vector<int32_t>> parts(static_cast<size_t>(shards));
  std::vector<double> load(parts.size());
  const auto room = [&](size_t s) { return h * int64_t(s + 1) / shards - h * int64_t(s) / shards; };
  for (int32_t neuron : heaviest_first) {
    size_t lightest = parts.size();
    for (size_t s = 0; s < parts.size(); ++s) {
      if (int64_t(parts[s].size()) < room(s) && (lightest == parts.size() || load[s] < load[lightest])) lightest = s;
    }
    parts[lightest].push_back(neuron);
    load[lightest] += work[size_t(neuron)];
  }

  std::vector<int32_t> order;
  for (const std::vector<int32_t>& part : parts) order.insert(order.end(), part.begin(), part.end());
  return order;
}

}  // namespace pleat
