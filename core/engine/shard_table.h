#pragma once
// What a rank would hold and read of a model, from sizes alone.
#include <cstdint>

#include "core/model/blueprint.h"
#include "parallel/shard_plan.h"

namespace pleat {

struct RankShare {
  Range heads, neurons, fold_inputs, vocab;
  int64_t bytes_stored = 0;  // weights
  int64_t bytes_read =
      0;  // weights for one generated token at batch 1; folded FFNs at the reduction of their calibration
};

RankShare share_of(const Blueprint& blueprint, const ShardPlan& plan, int rank, WeightFormat dtype);

}  // namespace pleat
