#include "core/fold/ranges.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "tests/core/fold/random_ffn.h"

namespace pleat {
namespace {

struct Samples {
  std::vector<float> predicted, z, activated;
};

Samples gelu_samples(double mean, double deviation, double prediction_noise, size_t n = 8000) {
  std::mt19937_64 random(5);
  std::normal_distribution<double> normal(0, 1);
  Samples out;
  for (size_t i = 0; i < n; ++i) {
    const double z = mean + deviation * normal(random);
    out.z.push_back(float(z));
    out.predicted.push_back(float(z + prediction_noise * normal(random)));
    out.activated.push_back(float(gelu_new(out.z.back())));
  }
  return out;
}

struct Line {
  double slope = 0, intercept = 0, error = 0;
  int64_t count = 0;
};

// Least squares over the samples in [low, high], the slow way.
Line best_line(const Samples& s, float low, float high) {
  Line out;
  double z_mean = 0, s_mean = 0, zz = 0, zs = 0;
  const auto inside = [&](size_t i) { return s.predicted[i] >= low && s.predicted[i] <= high; };
  for (size_t i = 0; i < s.z.size(); ++i) {
    if (inside(i)) z_mean += s.z[i], s_mean += s.activated[i], ++out.count;
  }
  z_mean /= double(out.count), s_mean /= double(out.count);
  for (size_t i = 0; i < s.z.size(); ++i) {
    if (inside(i)) zz += (s.z[i] - z_mean) * (s.z[i] - z_mean), zs += (s.z[i] - z_mean) * (s.activated[i] - s_mean);
  }
  out.slope = zs / zz;
  out.intercept = s_mean - out.slope * z_mean;
  for (size_t i = 0; i < s.z.size(); ++i) {
    if (!inside(i)) continue;
    const double rest = s.activated[i] - out.slope * s.z[i] - out.intercept;
    out.error += rest * rest / double(s.z.size());
  }
  return out;
}

TEST(Ranges, LineErrorAndShareAreThoseOfTheSamplesInside) {
  for (const double mean : {-2.0, -0.5, 0.3}) {
    const Samples s = gelu_samples(mean, 0.8, 0.2);
    for (const NeuronRange& range : grow_ranges(s.predicted, s.z, s.activated)) {
      const Line line = best_line(s, range.low, range.high);
      EXPECT_NEAR(range.outside, 1 - double(line.count) / double(s.z.size()), 1e-6);
      EXPECT_NEAR(range.slope, line.slope, 1e-4);
      EXPECT_NEAR(range.intercept, line.intercept, 1e-4);
      EXPECT_NEAR(range.error, line.error, 1e-6 + 1e-4 * line.error);
    }
  }
}

TEST(Ranges, MeetTheirCoverageWithinOneStepAndNest) {
  const Samples s = gelu_samples(-0.5, 1, 0.2);
  const auto ranges = grow_ranges(s.predicted, s.z, s.activated);
  for (size_t i = 0; i < ranges.size(); ++i) {
    EXPECT_LE(ranges[i].outside, kOutsideShares[i] + 1e-3);
    EXPECT_GE(ranges[i].outside, kOutsideShares[i] - 0.02);  // a step is 0.1% of the tokens, or one bin
    if (i > 0) {
      EXPECT_GE(ranges[i].low, ranges[i - 1].low);
      EXPECT_LE(ranges[i].high, ranges[i - 1].high);
      EXPECT_LE(ranges[i].error, ranges[i - 1].error + 1e-9);
    }
  }
  EXPECT_EQ(ranges[0].low, -std::numeric_limits<float>::infinity());
  EXPECT_EQ(ranges[0].high, std::numeric_limits<float>::infinity());
}

// All windows of the same share, by brute force over sorted samples.
double best_window_error(const Samples& s, double outside) {
  std::vector<float> sorted = s.predicted;
  std::sort(sorted.begin(), sorted.end());
  const size_t inside = size_t(std::ceil((1 - outside) * double(sorted.size())));
  double best = INFINITY;
  for (size_t begin = 0; begin + inside <= sorted.size(); begin += 16) {
    best = std::min(best, best_line(s, sorted[begin], sorted[begin + inside - 1]).error);
  }
  return best;
}

TEST(Ranges, GreedyGrowthIsNearTheBestWindowOfItsShare) {
  for (const double mean : {-1.5, -0.7, 0.0, 0.6}) {
    const Samples s = gelu_samples(mean, 0.7, 0.1, 2000);
    const auto ranges = grow_ranges(s.predicted, s.z, s.activated);
    const double whole = ranges[0].error;
    for (const size_t i : {4, 8}) {
      EXPECT_LE(ranges[i].error, 1.5 * best_window_error(s, ranges[i].outside) + 0.05 * whole)
          << "mean " << mean << " share " << i;
    }
  }
}

TEST(Ranges, AreFoundForConstantAndOneSidedNeurons) {
  const std::vector<float> constant(500, 0.25f);
  for (const NeuronRange& range : grow_ranges(constant, constant, constant)) {
    EXPECT_EQ(range.outside, 0);
    EXPECT_NEAR(range.slope * 0.25 + range.intercept, 0.25, 1e-6);
  }
  Samples relu = gelu_samples(-1, 1, 0);
  for (size_t i = 0; i < relu.z.size(); ++i) relu.activated[i] = std::max(relu.z[i], 0.0f);
  const auto ranges = grow_ranges(relu.predicted, relu.z, relu.activated);
  const NeuronRange& range = ranges[6];  // 20% outside, 16% are positive: the exact zeros are free
  EXPECT_EQ(range.low, -std::numeric_limits<float>::infinity());
  EXPECT_LT(range.error, 1e-6);
}

}  // namespace
}  // namespace pleat
