#pragma once
// Sums over the ranks' devices by NCCL, and what it does for other sums, on one host or several. Without NCCL,
// no_nccl.cpp stands in.
//
// Every wait, for NCCL's start, for a call or for the device, asks NCCL how it fares and ends with the communicator's
// deadline. NCCL is then aborted, never waited for. Errors are one line that names rank, host, device, PCI id and
// interface, and what NCCL says, behind the late rank of this host if there is one: Error(peer_lost) where a rank or
// the way to it is lost (an empty one where another rank of this host has spoken, and after the first trouble),
// Error(failed) where this rank's own device is, or where NCCL says that it cannot start.
#include <memory>

#include "parallel/device/device_sum.h"
#include "parallel/shard_plan.h"

namespace pleat {

class NcclCommunicator;
class PeerMemory;

// Whether this build has NCCL.
bool has_nccl();

// Collective, and of one thread of a rank, whose device it takes. The communicator outlives it.
// Error(unimplemented) where there is no device, or no NCCL in this build.
std::shared_ptr<NcclCommunicator> start_nccl(Communicator& communicator);

// Ends it at once, where other ranks could not start: its end in order would wait for them.
void abandon(NcclCommunicator& nccl);

// Collective. Graphs that captured its calls do not outlive it, and streams with its calls have been waited for. A
// graph captures after a first call without one: NCCL connects the ranks then.
//   reduction  invariant: the nodes are gathered, and their trees finished; fast: where a rank has one sum at most,
//              NCCL adds in an order of its own, the same bits on every rank
//   capacity   floats of the largest message of a rank: exchange.most_nodes * rows * d
std::unique_ptr<DeviceSum> nccl_sum(const std::shared_ptr<NcclCommunicator>& nccl, Reduction reduction,
                                    int64_t capacity);

// Collective: a PeerMemory in windows of NCCL's, between processes that CUDA IPC does not reach and hosts that NVLink
// joins. nullptr, on every rank, where NCCL has no windows or a rank is out of another's reach.
std::unique_ptr<PeerMemory> nccl_peer_memory(const std::shared_ptr<NcclCommunicator>& nccl, int64_t capacity);

}  // namespace pleat
