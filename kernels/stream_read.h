#pragma once
// Reading memory and doing nothing else: the yardstick that bandwidth figures are given as a share of.
#include "kernels/buffer.h"

namespace pleat {

class Context;

// Bytes per second at which all members of the team together read `memory` once (each its own contiguous part, with
// software prefetch). Use sets far larger than the last-level cache.
double stream_read(Context& ctx, const Buffer& memory);

}  // namespace pleat
