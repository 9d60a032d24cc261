#include "core/fold/knapsack.h"

#include <cmath>
#include <cstdint>

namespace pleat {

std::vector<size_t> choose_options(const std::vector<std::vector<Priced>>& layers, double budget) {
  const size_t units = layers.size() * 1000;
  const auto weight = [&](double bytes) { return size_t(std::ceil(bytes / budget * double(units) - 1e-9)); };
  // best[w]: the least cost of the layers so far with at most w units.
  std::vector<double> best(units + 1, 0.0);
  std::vector<std::vector<uint16_t>> taken;  // [layers][w]
  for (const std::vector<Priced>& options : layers) {
    std::vector<double> next(units + 1, INFINITY);
    std::vector<uint16_t>& choice = taken.emplace_back(units + 1);
    for (size_t i = 0; i < options.size(); ++i) {
      if (!(options[i].bytes <= budget)) continue;
      const size_t needed = weight(options[i].bytes);
      for (size_t w = needed; w <= units; ++w) {
        const double cost = best[w - needed] + options[i].cost;
        if (cost < next[w]) next[w] = cost, choice[w] = uint16_t(i);
      }
    }
    best = std::move(next);
  }
  if (!std::isfinite(best[units])) return {};
  std::vector<size_t> out(layers.size());
  size_t w = units;
  for (size_t layer = layers.size(); layer-- > 0;) {
    out[layer] = taken[layer][w];
    w -= weight(layers[layer][out[layer]].bytes);
  }
  return out;
}

}  // namespace pleat
