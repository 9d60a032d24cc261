#pragma once
// What the tests of quantised models share.
#include <cmath>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/fold/quantize.h"
#include "kernels/check.h"
#include "tests/temporary_folder.h"

namespace pleat::test {

inline QuantizeOptions options_for(const std::string& model, const std::string& out) {
  QuantizeOptions options;
  options.model = model;
  options.out = out;
  options.gate_up = WeightFormat::int5;
  options.down = WeightFormat::int4;
  options.attention = WeightFormat::int6;
  options.head = WeightFormat::int8;
  return options;
}

// Squared distance over the expected values' squares about their mean.
inline double distance(const std::vector<float>& a, const std::vector<float>& expected) {
  EXPECT_EQ(a.size(), expected.size());
  const double mean = std::accumulate(expected.begin(), expected.end(), 0.0) / double(expected.size());
  double squared = 0, energy = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    squared += std::pow(double(a[i]) - expected[i], 2);
    energy += std::pow(double(expected[i]) - mean, 2);
  }
  return squared / energy;
}

}  // namespace pleat::test
