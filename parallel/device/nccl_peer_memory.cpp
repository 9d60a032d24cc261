#include "parallel/device/nccl_memory.h"
#include "parallel/device/nccl_sum.h"
#include "parallel/device/peer_memory.h"

namespace pleat {

// Kernels use the windows' addresses alone, this rank's own too: one memory under two addresses is not in order.
std::unique_ptr<PeerMemory> nccl_peer_memory(const std::shared_ptr<NcclCommunicator>& nccl, int64_t capacity) {
  if (nccl->host().ranks() > cuda::kMaxRanks) return nullptr;
  const auto memory = std::make_shared<const NcclMemory>(nccl, PeerMemory::bytes(capacity));
  PeerMemory::zero_flags(memory->get());
  const std::vector<void*> ranks = memory->of_all_ranks();  // who has these has waited for all ranks
  return ranks.empty() ? nullptr : std::make_unique<PeerMemory>(capacity, ranks, memory);
}

}  // namespace pleat
