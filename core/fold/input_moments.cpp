#include "core/fold/input_moments.h"

#include <algorithm>
#include <cmath>

#include "kernels/check.h"

namespace pleat {

void require_finite(MatrixView<const float> x, int layer) {
  for (int64_t row = 0; row < x.rows; ++row)
    for (int64_t i = 0; i < x.cols; ++i)
      PLEAT_REQUIRE(std::isfinite(x[row][i]), layer < 0 ? "behind the layers" : concat("in layer ", layer),
                    " the text gives activations that are no finite numbers");
}

void take_largest(MatrixView<const float> x, int layer, std::vector<float>& largest) {
  require_finite(x, layer);
  for (int64_t row = 0; row < x.rows; ++row)
    for (int64_t i = 0; i < x.cols; ++i) largest[size_t(i)] = std::max(largest[size_t(i)], std::fabs(x[row][i]));
}

std::vector<int32_t> extreme_inputs(const std::vector<float>& largest) {
  constexpr float kExtreme = 20;
  constexpr size_t kMost = 8;
  std::vector<float> sorted = largest;
  std::nth_element(sorted.begin(), sorted.begin() + int64_t(sorted.size() / 2), sorted.end());
  const float limit = kExtreme * sorted[sorted.size() / 2];
  std::vector<int32_t> out;
  for (size_t i = 0; i < largest.size(); ++i)
    if (largest[i] > limit) out.push_back(int32_t(i));
  std::sort(out.begin(), out.end(), [&](int32_t a, int32_t b) { return largest[size_t(a)] > largest[size_t(b)]; });
  if (out.size() > kMost) out.resize(kMost);
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace pleat
