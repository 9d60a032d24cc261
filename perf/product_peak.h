#pragma once
// What a processor's multipliers could do: the yardstick of products of many rows.
#include "kernels/context.h"

namespace pleat {

// Additions and multiplications a second of all members of the team together in fused multiply-adds of f32 between
// registers; `bf16_pairs`: in dot products of pairs of bf16 instead, where the products use those.
double product_peak(Context& ctx, bool bf16_pairs);

}  // namespace pleat
