#pragma once
// What several families' configurations say about positions in the same words.
#include "core/model/blueprint.h"

namespace pleat {

class Config;

// How a family's rotary embedding is configured where config.json says nothing else.
struct RotaryDefaults {
  double theta = 10000;
  double part = 1;  // of a head that is rotated
};

// config.json's rope_parameters, or rope_theta, rope_scaling and partial_rotary_factor of older files: one Rotary over
// heads of blueprint.head_size. Error(invalid) on a rope_type other than default, linear, llama3 and yarn.
Rotary read_rotary(const Config& config, const Blueprint& blueprint, const RotaryDefaults& defaults);
// The same from one object of rope parameters.
Rotary rotary_of(const Config& parameters, const Blueprint& blueprint, const RotaryDefaults& defaults);

// Sets every layer's window: sliding_window in the layers that layer_types calls sliding_attention. Without
// layer_types: those for which `sliding(layer)` holds.
void read_windows(const Config& config, Blueprint& blueprint, const std::function<bool(int)>& sliding);

// The slopes of ALiBi (arXiv 2108.12409): powers of 2^(-8 / heads), and for other numbers of heads than powers of two
// those of the next lower power, then every other one of the next higher.
std::vector<float> alibi_slopes(int heads);

}  // namespace pleat
