#pragma once
// TARDIS step 3: the range in which a neuron is replaced by its line, for a grid of shares left outside. The range is a
// range of the *predicted* z~, because z~ is what decides at run time: the error of a range then counts what the
// predictor gets wrong, and the margin between z~ and z is in it. The line sigma(z) ~ a z + c is fitted on the tokens
// that will use it.
#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace pleat {

constexpr std::array<double, 13> kOutsideShares = {0, .01, .02, .05, .1, .15, .2, .25, .3, .4, .5, .7, .9};
constexpr int kRangeBins = 1024;

struct NeuronRange {
  float low = 0, high = 0;         // in range: low <= z~ <= high; -inf / +inf where open
  float slope = 0, intercept = 0;  // a, c
  float outside = 0;               // share of the samples with z~ outside
  float error = 0;                 // sum over samples in range of (sigma - a z - c)^2, divided by all samples
};

// predicted, z, activated [n]: z~, z and sigma(z) of one neuron on the same tokens. One range for each of
// kOutsideShares, nested: grown from the mode of z~'s density (kernel estimate over a histogram), each time on the side
// that costs less error for a token, until the share left outside is met.
std::array<NeuronRange, kOutsideShares.size()> grow_ranges(std::span<const float> predicted, std::span<const float> z,
                                                           std::span<const float> activated);

}  // namespace pleat
