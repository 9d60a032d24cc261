#include "kernels/rotary.h"

#include <cmath>

#include "kernels/check.h"
#include "kernels/context.h"

namespace pleat {
namespace {

void rotate_halves(float* x, const float* cosine, const float* sine, int64_t half) {
  for (int64_t i = 0; i < half; ++i) {
    const float a = x[i], b = x[i + half];
    x[i] = a * cosine[i] - b * sine[i];
    x[i + half] = b * cosine[i] + a * sine[i];
  }
}

void rotate_neighbours(float* x, const float* cosine, const float* sine, int64_t half) {
  for (int64_t i = 0; i < half; ++i) {
    const float a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = a * cosine[i] - b * sine[i];
    x[2 * i + 1] = b * cosine[i] + a * sine[i];
  }
}

template <class Work>
void for_rows(Context& ctx, int64_t rows, int64_t values, Work work) {
  if (rows * values <= 8192 || rows == 1) return work(0, 0, rows);
  ctx.team().split(rows, work);
}

}  // namespace

void compute_angles(Context& ctx, const Rotary& rotary, std::span<const AttentionRow> rows, RotaryAngles& angles) {
  const size_t half = rotary.frequency.size();
  if (angles.cosine.size() < rows.size() * half) {
    angles.cosine.resize(rows.size() * half);
    angles.sine.resize(rows.size() * half);
  }
  for_rows(ctx, int64_t(rows.size()), int64_t(half) * 16, [&](int, int64_t begin, int64_t end) {
    for (size_t row = size_t(begin); row < size_t(end); ++row) {
      for (size_t i = 0; i < half; ++i) {
        const float angle = float(rows[row].position) * rotary.frequency[i];  // rounded to f32, as models are trained
        angles.cosine[row * half + i] = float(std::cos(double(angle))) * rotary.magnitude;
        angles.sine[row * half + i] = float(std::sin(double(angle))) * rotary.magnitude;
      }
    }
  });
}

void rotate(Context& ctx, const Rotary& rotary, const RotaryAngles& angles, int head_size, MatrixView<float> x) {
  const int64_t half = int64_t(rotary.frequency.size());
  PLEAT_ASSERT(2 * half <= head_size && x.cols % head_size == 0, 2 * half, " of ", head_size, " in ", x.cols);
  const auto turn = rotary.interleaved ? rotate_neighbours : rotate_halves;
  for_rows(ctx, x.rows, x.cols, [&](int, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t head = 0; head < x.cols; head += head_size)
        turn(x[row] + head, &angles.cosine[size_t(row * half)], &angles.sine[size_t(row * half)], half);
  });
}

}  // namespace pleat
