#pragma once
// How a layer's neurons are cut: in bins of 64, for selections, and in 32 virtual shards.
#include <cstdint>
#include <vector>

#include "kernels/cuda/prompt_choice.h"
#include "lab.h"

namespace pleat::lab {

struct NeuronParts {
  NeuronParts(const Lab& lab, int neurons) : neurons(neurons) {
    for (int bin = 0; bin < neurons; bin += kBin) bins.push_back(bin);
    bins.push_back(neurons);
    for (int shard = 0; shard <= kShards; ++shard) shard_offsets.push_back(neurons * shard / kShards);
    device_shards = {std::span<const int32_t>(shard_offsets), lab.stream()};
  }
  cuda::Shards shards() const { return {device_shards.data(), kShards, neurons, (neurons + kShards - 1) / kShards}; }

  static constexpr int kBin = 64, kShards = 32;
  int neurons;
  std::vector<int32_t> bins, shard_offsets;
  cuda::DeviceArray<int32_t> device_shards;
};

}  // namespace pleat::lab
