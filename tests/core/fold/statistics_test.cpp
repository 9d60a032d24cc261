// What the fold keeps of every layer's FFN input.
#include "core/fold/statistics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/core/fold/random_ffn.h"

namespace pleat {
namespace {

// Windows that begin with the attention sink's massive activation.
struct SinkWindow {
  Table x, y;
  StepPlan plan;
  SinkWindow(int64_t rows, int64_t width, uint64_t seed) : x(random_table(rows, width, 1, seed)), y(rows, width) {
    std::fill_n(x[0], width, 0.0f);
    x[0][0] = 1000;
    for (int position = 0; position < rows; ++position) plan.rows.push_back({0, position, 0, 0, 0, 0});
  }
};

TEST(Statistics, HoldTheSinkInTheMomentsAndLeaveItOutOfTheSample) {
  constexpr int64_t kWidth = 6, kLength = 5;
  Context ctx(1, false);
  SinkWindow windows[] = {{kLength, kWidth, 3}, {kLength, kWidth, 4}};
  Statistics statistics(ctx, 2, kWidth, 2 * (kLength - 1), 100);
  std::vector<double> moment(size_t(kWidth * kWidth));
  std::vector<float> rest;  // all rows but the sinks
  for (SinkWindow& window : windows) {
    statistics.ffn(1, window.plan, window.x.view(), window.y.view());
    const std::vector<double> one = second_moment_of(window.x);
    for (size_t i = 0; i < moment.size(); ++i) moment[i] += one[i];
    rest.insert(rest.end(), window.x[1], window.x[0] + window.x.data.size());
  }
  const LayerStatistics& layer = statistics.layer(1);
  EXPECT_GE(layer.second_moment[0], 2e6);
  ASSERT_EQ(layer.second_moment.size(), moment.size());
  for (size_t i = 0; i < moment.size(); ++i)
    EXPECT_NEAR(layer.second_moment[i], moment[i], 1e-6 * std::fabs(moment[i]) + 1e-5);
  EXPECT_EQ(layer.largest[0], 1000);
  EXPECT_EQ(layer.sample.data, rest);
  for (const double value : statistics.layer(0).second_moment) EXPECT_EQ(value, 0) << "of another layer";
}

TEST(Statistics, ASmallerSampleTakesAsManyRowsOfEachWindow) {
  constexpr int64_t kWidth = 4, kLength = 9;
  Context ctx(1, false);
  Statistics statistics(ctx, 1, kWidth, 3 * (kLength - 1), 6);
  ASSERT_EQ(statistics.sample_rows(), 6);
  for (int64_t w = 0; w < 3; ++w) {
    SinkWindow window(kLength, kWidth, 5);
    for (int64_t row = 1; row < kLength; ++row) window.x[row][0] = float(w + 1);
    statistics.ffn(0, window.plan, window.x.view(), window.y.view());
  }
  std::vector<float> windows;
  for (int64_t row = 0; row < 6; ++row) windows.push_back(statistics.layer(0).sample[row][0]);
  EXPECT_EQ(windows, (std::vector<float>{1, 1, 2, 2, 3, 3}));
}

}  // namespace
}  // namespace pleat
