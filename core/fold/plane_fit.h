#pragma once
// The scales of one set of weights in binary-coded planes (ShiftAddLLM, arXiv 2406.05981).
#include <array>
#include <cstddef>
#include <cstdint>

namespace pleat {

constexpr int kMostPlanes = 4;

// A_p of the planes in use, as integers that plane_scale_byte() has bytes for, adding up to at most kPlaneLimit.
struct PlaneFit {
  int planes = 2;
  std::array<int, kMostPlanes> scales{};

  int level(int code) const {
    int sum = 0;
    for (int p = 0; p < planes; ++p) sum += code >> p & 1 ? scales[std::size_t(p)] : -scales[std::size_t(p)];
    return sum;
  }
  int set(int code) const { return (level(code) - level(0)) / 2; }  // the sum of those whose bit is set
  int nearest(float x) const;  // code of the level nearest to x, the lowest of several
};

// Scales for x [n], n <= 64, in units of 2^e, that make the sum of error_weight * (x - its nearest level)^2 small:
// greedily (each scale the mean magnitude of what the earlier ones leave) and from evenly spaced levels, then
// alternating between nearest levels and least squares, and from the best of these to sums of powers of two near by.
PlaneFit fit_planes(const float* x, const float* error_weight, int64_t n, int planes);

}  // namespace pleat
