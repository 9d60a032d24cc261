#include "parallel/device/make_device_sum.h"

#include <cstdio>

#include "parallel/device/nccl_sum.h"
#include "parallel/device/one_rank_sum.h"
#include "parallel/device/peer_sum.h"
#include "parallel/device/staged_sum.h"
#include "parallel/device/sum_by_size.h"

namespace pleat {
namespace {

// What NCCL gives these ranks.
struct ByNccl {
  std::unique_ptr<PeerMemory> windows;
  std::unique_ptr<DeviceSum> sum;
};

// What is made on all ranks, or nothing: then `trouble` says why on the first rank that could not. A rank that is lost
// is another matter.   undo(made): where this rank could and another could not
template <class Make, class Undo>
auto on_all_ranks(Communicator& communicator, std::string& trouble, Make make, Undo undo) -> decltype(make()) {
  decltype(make()) made{};
  std::string mine;
  try {
    made = make();
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::peer_lost) throw;
    mine = error.what();
  }
  const int64_t first = communicator.agree_min("NCCL", mine.empty() ? communicator.ranks() : communicator.rank());
  if (first == communicator.rank()) trouble = mine;
  if (first == communicator.ranks()) return made;
  if (mine.empty()) undo(made);
  return {};
}

// Where nobody asked for NCCL: what waits for it in vain ends with what does without it.
std::shared_ptr<NcclCommunicator> try_nccl(Communicator& communicator, bool has_peers) {
  try {
    return start_nccl(communicator);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::peer_lost || *error.what() == 0) throw;
    throw Error(error.kind(),
                concat(error.what(), "; --device-sums ", has_peers ? "peers" : "host", " starts no NCCL"));
  }
}

}  // namespace

std::unique_ptr<DeviceSum> make_device_sum(Communicator& communicator, Reduction reduction, int most_nodes,
                                           int64_t capacity, DeviceSums which) {
  if (communicator.ranks() == 1) return std::make_unique<OneRankSum>();
  // What NCCL does not add itself, but gathers, is added by a kernel for so many.
  const bool may_use_nccl =
      communicator.ranks() <= cuda::kMaxRanks || (reduction == Reduction::fast && most_nodes == 1);
  if (which == DeviceSums::nccl) {
    PLEAT_REQUIRE(may_use_nccl, "--device-sums nccl: at most ", cuda::kMaxRanks, " ranks, not ", communicator.ranks(),
                  "; more only with --reduction fast, of models without parallel residuals");
    return nccl_sum(start_nccl(communicator), reduction, capacity);
  }
  if (which == DeviceSums::host) return std::make_unique<StagedSum>(communicator, capacity);

  const bool automatic = which == DeviceSums::automatic;
  std::unique_ptr<DeviceSum> peers = PeerSum::make(communicator, capacity);
  const bool by_size = automatic && SumBySize::may_help(capacity) && !PeerMemory::of_threads(communicator);
  std::shared_ptr<NcclCommunicator> started;
  std::string trouble = may_use_nccl ? "" : concat("NCCL gathers from at most ", cuda::kMaxRanks, " ranks");
  if (has_nccl() && may_use_nccl && (!peers || by_size))
    started = on_all_ranks(
        communicator, trouble,
        [&] { return automatic ? try_nccl(communicator, peers != nullptr) : start_nccl(communicator); },
        [](const std::shared_ptr<NcclCommunicator>& nccl) { abandon(*nccl); });
  ByNccl nccl;
  if (started)
    nccl = on_all_ranks(
        communicator, trouble,
        [&] {
          ByNccl out;
          if (!peers) out.windows = nccl_peer_memory(started, capacity);
          const bool has_peers = peers || out.windows;
          if (automatic && (by_size || !has_peers)) out.sum = nccl_sum(started, reduction, capacity);
          return out;
        },
        [](const ByNccl&) {});
  if (!peers) peers = PeerSum::over(std::move(nccl.windows), communicator);

  PLEAT_REQUIRE(peers || automatic, "--device-sums peers: a rank's device cannot reach another's memory");
  if (peers && nccl.sum)
    return SumBySize::make(communicator, std::move(peers), std::move(nccl.sum), reduction, capacity);
  if (peers) return peers;
  if (nccl.sum) return std::move(nccl.sum);
  if (!trouble.empty())
    std::fprintf(stderr, "pleat: the devices' sums go through the host's memory: %s\n", trouble.c_str());
  return std::make_unique<StagedSum>(communicator, capacity);
}

}  // namespace pleat
