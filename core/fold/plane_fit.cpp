#include "core/fold/plane_fit.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/check.h"
#include "kernels/planes.h"

namespace pleat {
namespace {

constexpr int kMostCodes = 1 << kMostPlanes;
constexpr int kRounds = 6;  // of nearest levels and least squares
using Scales = std::array<float, kMostPlanes>;

// The magnitudes of weights: levels come in pairs of both signs.
struct Group {
  int64_t n = 0;
  int planes = 2;
  float x[64] = {}, weight[64] = {};
};

// The level of a code whose last plane is +1, by magnitude, or the negative code's.
void levels_of(const Scales& scales, int planes, float* levels) {
  for (int code = 0; code < 1 << (planes - 1); ++code) {
    float sum = scales[size_t(planes - 1)];
    for (int p = 0; p + 1 < planes; ++p) sum += code >> p & 1 ? scales[size_t(p)] : -scales[size_t(p)];
    levels[code] = sum;
  }
}

float error_of(const Group& w, const Scales& scales) {
  float levels[kMostCodes / 2], nearest[64];
  levels_of(scales, w.planes, levels);
  std::fill(nearest, nearest + w.n, INFINITY);
  for (int code = 0; code < 1 << (w.planes - 1); ++code) {
    const float level = std::fabs(levels[code]);
    for (int64_t i = 0; i < w.n; ++i) {
      const float distance = std::fabs(w.x[i] - level);
      nearest[i] = distance < nearest[i] ? distance : nearest[i];
    }
  }
  float sum = 0;
  for (int64_t i = 0; i < w.n; ++i) sum += w.weight[i] * nearest[i] * nearest[i];
  return sum;
}

// g [planes, planes] a = r by elimination; g symmetric and positive with the ridge it has.
void solve(int planes, double (*g)[kMostPlanes], double* r) {
  for (int p = 0; p < planes; ++p)
    for (int q = p + 1; q < planes; ++q) {
      const double share = g[q][p] / g[p][p];
      for (int k = p; k < planes; ++k) g[q][k] -= share * g[p][k];
      r[q] -= share * r[p];
    }
  for (int p = planes - 1; p >= 0; --p) {
    for (int k = p + 1; k < planes; ++k) r[p] -= g[p][k] * r[k];
    r[p] /= g[p][p];
  }
}

// Least squares with every weight's code held.
Scales refit(const Group& w, const Scales& scales) {
  float levels[kMostCodes / 2];
  levels_of(scales, w.planes, levels);
  double weight[kMostCodes] = {}, moment[kMostCodes] = {}, total = 0;  // by code
  const int half = 1 << (w.planes - 1);
  for (int64_t i = 0; i < w.n; ++i) {
    int best = 0;
    float distance = INFINITY;
    for (int code = 0; code < half; ++code)
      if (const float d = std::fabs(w.x[i] - std::fabs(levels[code])); d < distance) distance = d, best = code;
    const int code = levels[best] < 0 ? half - 1 - best : half + best;
    weight[code] += double(w.weight[i]);
    moment[code] += double(w.weight[i]) * double(w.x[i]);
    total += double(w.weight[i]);
  }
  double g[kMostPlanes][kMostPlanes] = {}, r[kMostPlanes] = {};
  const double ridge = 1e-6 * total;  // towards the scales there were
  for (int p = 0; p < w.planes; ++p) {
    for (int code = 0; code < 2 * half; ++code) {
      const double sign = code >> p & 1 ? 1 : -1;
      r[p] += sign * moment[code];
      for (int q = 0; q < w.planes; ++q) g[p][q] += sign * (code >> q & 1 ? 1 : -1) * weight[code];
    }
    g[p][p] += ridge;
    r[p] += ridge * double(scales[size_t(p)]);
  }
  solve(w.planes, g, r);
  Scales out{};
  for (int p = 0; p < w.planes; ++p) out[size_t(p)] = float(std::fabs(r[p]));
  return out;
}

Scales greedy(const Group& w) {
  std::vector<float> rest(w.x, w.x + w.n);
  Scales out{};
  for (int p = 0; p < w.planes; ++p) {
    float sum = 0, total = 0;
    for (int64_t i = 0; i < w.n; ++i) sum += w.weight[i] * std::fabs(rest[size_t(i)]), total += w.weight[i];
    const float scale = total > 0 ? sum / total : 0;
    for (float& value : rest) value -= value < 0 ? -scale : scale;
    out[size_t(p)] = scale;
  }
  return out;
}

// Levels at even distances up to `highest`.
Scales even(int planes, float highest) {
  Scales out{};
  for (int p = 0; p < planes; ++p) out[size_t(p)] = highest * float(1 << p) / float((1 << planes) - 1);
  return out;
}

// The values that scales can have, ascending.
const std::vector<int>& scale_values() {
  static const std::vector<int> values = [] {
    std::vector<int> out;
    for (int value = 0; value <= kPlaneLimit; ++value)
      if (plane_scale_byte(value) != 255) out.push_back(value);
    return out;
  }();
  return values;
}

// Sums of powers of two near real scales.
class Rounding {
 public:
  Rounding(const Group& w, const Scales& scales) : w_(w) {
    float sum = 0;
    for (float scale : scales) sum += scale;
    const float shrink = std::min(1.0f, float(kPlaneLimit) / std::max(sum, 1e-30f));
    const std::vector<int>& values = scale_values();
    for (int p = 0; p < w.planes; ++p) {
      const float scale = scales[size_t(p)] * shrink;
      const auto above =
          std::upper_bound(values.begin(), values.end(), scale, [](float a, int b) { return a < float(b); });
      place_[size_t(p)] = int(above - values.begin()) - 1;
    }
    best_ = error(place_);  // every scale rounded down: it fits
  }

  PlaneFit run() {
    std::array<int, kMostPlanes> down = place_;
    for (int choice = 1; choice < 1 << w_.planes; ++choice) {
      std::array<int, kMostPlanes> candidate = down;
      for (int p = 0; p < w_.planes; ++p) candidate[size_t(p)] += choice >> p & 1;
      take(candidate);
    }
    for (bool better = true; better;) {
      better = false;
      for (int p = 0; p < w_.planes; ++p)
        for (int step : {-1, 1}) {
          std::array<int, kMostPlanes> candidate = place_;
          candidate[size_t(p)] += step;
          better |= take(candidate);
        }
    }
    PlaneFit fit;
    fit.planes = w_.planes;
    for (int p = 0; p < w_.planes; ++p) fit.scales[size_t(p)] = scale_values()[size_t(place_[size_t(p)])];
    return fit;
  }

 private:
  // Infinite where the places are out of bounds.
  float error(const std::array<int, kMostPlanes>& places) const {
    const std::vector<int>& values = scale_values();
    Scales scales{};
    int sum = 0;
    for (int p = 0; p < w_.planes; ++p) {
      if (places[size_t(p)] < 0 || places[size_t(p)] >= int(values.size())) return INFINITY;
      sum += values[size_t(places[size_t(p)])];
      scales[size_t(p)] = float(values[size_t(places[size_t(p)])]);
    }
    return sum > kPlaneLimit ? INFINITY : error_of(w_, scales);
  }
  bool take(const std::array<int, kMostPlanes>& places) {
    const float e = error(places);
    if (!(e < best_)) return false;
    best_ = e, place_ = places;
    return true;
  }

  const Group& w_;
  std::array<int, kMostPlanes> place_{};  // among scale_values()
  float best_;
};

}  // namespace

int PlaneFit::nearest(float x) const {
  int best = 0;
  float distance = INFINITY;
  for (int code = 0; code < 1 << planes; ++code)
    if (const float d = std::fabs(x - float(level(code))); d < distance) distance = d, best = code;
  return best;
}

PlaneFit fit_planes(const float* x, const float* error_weight, int64_t n, int planes) {
  PLEAT_ASSERT(n >= 0 && n <= 64 && planes >= 1 && planes <= kMostPlanes, n, " weights, ", planes, " planes");
  Group w;
  w.n = n, w.planes = planes;
  float highest = 0;
  for (int64_t i = 0; i < n; ++i) {
    w.x[i] = std::fabs(x[i]), w.weight[i] = error_weight[i];
    highest = std::max(highest, w.x[i]);
  }
  if (highest == 0) return {planes, {}};
  Scales best{};
  float best_error = INFINITY;
  for (Scales scales : {greedy(w), even(planes, highest), even(planes, 0.8f * highest), even(planes, 0.6f * highest)}) {
    for (int round = 0; round < kRounds; ++round) scales = refit(w, scales);
    if (const float e = error_of(w, scales); e < best_error) best_error = e, best = scales;
  }
  return Rounding(w, best).run();
}

}  // namespace pleat
