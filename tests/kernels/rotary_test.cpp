#include "kernels/rotary.h"

#include <gtest/gtest.h>

#include <cmath>
#include <complex>

#include "vectors.h"

namespace pleat {
namespace {

TEST(Rotary, TurnsEveryPairByItsAngleAndLeavesTheRest) {
  const int head_size = 20, heads = 3;
  const int64_t rows = 37, cols = heads * head_size, stride = cols + 5;
  std::vector<AttentionRow> positions;
  for (int64_t row = 0; row < rows; ++row) positions.push_back({row * 13, nullptr});
  const std::vector<float> x = random_floats(size_t(rows * stride), 1);
  for (bool interleaved : {false, true})
    for (int threads : {1, 3}) {
      Rotary rotary;
      rotary.frequency = {1.0f, 0.3f, 0.01f, 1e-4f};
      rotary.magnitude = 1.25f;
      rotary.interleaved = interleaved;
      Context ctx(threads, true);
      RotaryAngles angles;
      compute_angles(ctx, rotary, positions, angles);
      std::vector<float> y = x;
      rotate(ctx, rotary, angles, head_size, MatrixView<float>(y.data(), rows, cols, stride));
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t i = 0; i < stride; ++i) {
          const int64_t in_head = i % head_size, place = row * stride + i;
          if (i >= cols || in_head >= rotary.dims()) {
            ASSERT_EQ(y[place], x[place]);
            continue;
          }
          const int64_t pair = interleaved ? in_head / 2 : in_head % 4;
          const bool second = interleaved ? in_head % 2 == 1 : in_head >= 4;
          const int64_t apart = interleaved ? 1 : 4, first = second ? place - apart : place;
          // the angle is rounded to f32 (up to 468 here, so by up to 1.6e-5)
          const auto turned = std::complex<double>(x[first], x[first + apart]) *
                              std::polar(1.25, double(positions[row].position) * rotary.frequency[pair]);
          ASSERT_NEAR(y[place], second ? turned.imag() : turned.real(), 1e-4) << "row " << row << ", value " << i;
        }
    }
}

}  // namespace
}  // namespace pleat
