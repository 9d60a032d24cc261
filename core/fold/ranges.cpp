#include "core/fold/ranges.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/check.h"

namespace pleat {
namespace {

constexpr double kSpread = 6;        // standard deviations of z~ the bins cover on each side; the end bins are open
constexpr double kStepShare = 1e-3;  // of the tokens one growth step takes in, at least

// Sums over tokens; of a range by subtraction of two prefixes.
struct Sums {
  double count = 0, z = 0, zz = 0, s = 0, zs = 0, ss = 0;

  void add(double z_, double s_) { count += 1, z += z_, zz += z_ * z_, s += s_, zs += z_ * s_, ss += s_ * s_; }
  Sums operator-(const Sums& o) const { return {count - o.count, z - o.z, zz - o.zz, s - o.s, zs - o.zs, ss - o.ss}; }
  Sums operator+(const Sums& o) const { return {count + o.count, z + o.z, zz + o.zz, s + o.s, zs + o.zs, ss + o.ss}; }

  double slope() const {
    const double variance = zz - z * z / std::max(count, 1.0), covariance = zs - z * s / std::max(count, 1.0);
    return variance > 1e-9 * (zz + 1e-30) ? covariance / variance : 0;
  }
  double intercept() const { return count > 0 ? (s - slope() * z) / count : 0; }
  double error() const {  // of the best line, summed
    if (count == 0) return 0;
    const double covariance = zs - z * s / count;
    return std::max(0.0, ss - s * s / count - slope() * covariance);
  }
};

struct Histogram {
  double low = 0, width = 1;
  std::array<Sums, kRangeBins + 1> prefix;  // of the bins before
  int first = 0, last = 0;                  // the outermost bins that hold a token

  int bin(float value) const { return int(std::clamp((double(value) - low) / width, 0.0, kRangeBins - 1.0)); }
  Sums between(int begin, int end) const { return prefix[size_t(end)] - prefix[size_t(begin)]; }
};

struct Moments {
  double mean = 0, deviation = 0;
};

Moments moments_of(std::span<const float> values) {
  double sum = 0, squares = 0;
  for (float v : values) sum += v;
  const double mean = sum / double(values.size());
  for (float v : values) squares += (v - mean) * (v - mean);
  return {mean, std::sqrt(squares / double(values.size()))};
}

// The bin edges as floats, so that "z~ < low" means the same here and at run time.
float edge(const Histogram& histogram, int bin) { return float(histogram.low + histogram.width * bin); }

void fill(Histogram& histogram, std::span<const float> predicted, std::span<const float> z,
          std::span<const float> activated) {
  std::array<Sums, kRangeBins> bins{};
  for (size_t i = 0; i < predicted.size(); ++i) {
    int bin = histogram.bin(predicted[i]);
    if (bin > 0 && predicted[i] < edge(histogram, bin)) --bin;
    if (bin + 1 < kRangeBins && predicted[i] >= edge(histogram, bin + 1)) ++bin;
    bins[size_t(bin)].add(z[i], activated[i]);
  }
  histogram.first = kRangeBins;
  for (int bin = 0; bin < kRangeBins; ++bin) {
    histogram.prefix[size_t(bin) + 1] = histogram.prefix[size_t(bin)] + bins[size_t(bin)];
    if (bins[size_t(bin)].count == 0) continue;
    histogram.first = std::min(histogram.first, bin);
    histogram.last = bin;
  }
}

// Mode of the histogram smoothed with a kernel of Silverman's width: three box passes are close to a Gaussian.
int mode_of(const Histogram& histogram, double deviation, double n) {
  const double sigma = 1.06 * deviation * std::pow(n, -0.2) / histogram.width;
  const int radius = std::clamp(int(std::lround(sigma)), 1, kRangeBins / 8);
  std::array<double, kRangeBins> density;
  for (int bin = 0; bin < kRangeBins; ++bin) density[size_t(bin)] = histogram.between(bin, bin + 1).count;
  for (int pass = 0; pass < 3; ++pass) {
    std::array<double, kRangeBins + 1> sums{};
    for (int bin = 0; bin < kRangeBins; ++bin) sums[size_t(bin) + 1] = sums[size_t(bin)] + density[size_t(bin)];
    for (int bin = 0; bin < kRangeBins; ++bin) {
      const int begin = std::max(0, bin - radius), end = std::min(kRangeBins, bin + radius + 1);
      density[size_t(bin)] = sums[size_t(end)] - sums[size_t(begin)];
    }
  }
  return int(std::max_element(density.begin(), density.end()) - density.begin());
}

NeuronRange range_of(const Histogram& histogram, int begin, int end, double n) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const Sums inside = histogram.between(begin, end);
  NeuronRange out;
  out.low = begin <= histogram.first ? -infinity : edge(histogram, begin);
  out.high = end > histogram.last ? infinity : std::nextafter(edge(histogram, end), -infinity);
  out.slope = float(inside.slope());
  out.intercept = float(inside.intercept());
  out.outside = float(1 - inside.count / n);
  out.error = float(inside.error() / n);
  return out;
}

}  // namespace

std::array<NeuronRange, kOutsideShares.size()> grow_ranges(std::span<const float> predicted, std::span<const float> z,
                                                           std::span<const float> activated) {
  PLEAT_ASSERT(!predicted.empty() && z.size() == predicted.size() && activated.size() == predicted.size());
  const double n = double(predicted.size());
  const Moments moments = moments_of(predicted);
  const double spread = kSpread * moments.deviation + 1e-6 * (1 + std::fabs(moments.mean));
  Histogram histogram{moments.mean - spread, 2 * spread / kRangeBins, {}, 0, 0};
  fill(histogram, predicted, z, activated);

  int begin = mode_of(histogram, moments.deviation, n), end = begin + 1;
  const double step = std::max(1.0, kStepShare * n);
  std::array<NeuronRange, kOutsideShares.size()> out;
  for (size_t share = kOutsideShares.size(); share-- > 0;) {
    while (n - histogram.between(begin, end).count > kOutsideShares[share] * n + 0.5) {
      int left = begin, right = end;
      while (left > histogram.first && histogram.between(left, begin).count < step) --left;
      while (right <= histogram.last && histogram.between(end, right).count < step) ++right;
      const Sums inside = histogram.between(begin, end), with_left = histogram.between(left, end),
                 with_right = histogram.between(begin, right);
      const double left_count = with_left.count - inside.count, right_count = with_right.count - inside.count;
      const double left_cost = left_count > 0 ? (with_left.error() - inside.error()) / left_count : INFINITY;
      const double right_cost = right_count > 0 ? (with_right.error() - inside.error()) / right_count : INFINITY;
      PLEAT_ASSERT(left_count > 0 || right_count > 0);
      if (left_cost <= right_cost) {
        begin = left;
      } else {
        end = right;
      }
    }
    out[share] = range_of(histogram, begin, end, n);
  }
  return out;
}

}  // namespace pleat
