#pragma once
// How blocks of a kernel meet the same blocks of other ranks, as often as it is launched, with nobody to reset
// anything. Included by .cu files only.
//
// Epochs. Launch number e of every rank (1, 2, ...) is epoch e. A rank's counters hold the last epoch it has ended; a
// launch reads it, and its last block advances it, so that a captured launch can be repeated.
//
// Flags. flags[rank][place][block][from] in the memory of `rank` is written by `from` alone: the last epoch in which
// block `block` of `from` came to this meeting place. A rank is waited for until its flag is e, or e + 1 where it has
// gone on already; it cannot get further ahead. Older values may be as old as they like, and epochs may wrap around.
//
// Two halves. In epoch e ranks write half e % 2 of their exchange buffers. Who writes it again, in e + 2, has ended
// epoch e + 1, so has met everybody in it; they entered e + 1 after they had ended e, and with it their reading of that
// half. So no rank waits at the end of a launch.
//
// Memory order. A block's writes are ordered before its flags by __syncthreads() and the release at system scope, which
// is cumulative; its reads of what others wrote come after the acquire at system scope and __syncthreads(). The epoch
// is an ordinary word: launches of a rank follow each other, and the block that advances it is the last one.
#include "device_language.h"
#include "kernels/cuda/all_reduce.h"

namespace pleat::cuda {

// In a rank's counters. The first two are read together.
constexpr int kEpoch = 0;
constexpr int kFailed = 1;      // other than 0: no more launches
constexpr int kBlocksDone = 2;  // of this launch
constexpr int kPiecesDone = 3;  // of each row

constexpr unsigned kLooksPerAbort = 64;  // the abort word is across the bus

// The block enters the launch's epoch. False: an earlier launch, or block, has failed.
__device__ inline bool enter(const AllReduce& all, unsigned& epoch) {
  __shared__ SharedArray<unsigned, 2> words;
  if (threadIdx.x == 0) {
    const uint64_t both = load_relaxed(reinterpret_cast<const uint64_t*>(all.counters));
    words[0] = unsigned(both >> 32 * kEpoch) + 1;
    words[1] = unsigned(both >> 32 * kFailed);
  }
  __syncthreads();
  epoch = words[0];
  return words[1] == 0;
}

__device__ inline void give_up(const AllReduce& all, bool aborted, int peer) {
  store_release(all.status, 1u << 31 | unsigned(aborted) << 30 | unsigned(peer) << 16 | blockIdx.x);
  store_release(all.counters + kFailed, 1);
}

// Whether a wait for the peer has lasted too long: the rank gives up.
__device__ inline bool waits_in_vain(const AllReduce& all, unsigned looks, int peer) {
  const bool aborted = looks % kLooksPerAbort == 0 && load_acquire(all.abort) != 0;
  if (!aborted && (looks < all.spins || all.spins == ~0u)) return false;
  give_up(all, aborted, peer);
  return true;
}

// Whether the flag gets to the epoch in time.
__device__ inline bool comes(const AllReduce& all, const unsigned* flag, unsigned epoch, int peer) {
  for (unsigned looks = 1; load_acquire(flag) - epoch > 1; ++looks) {
    if (waits_in_vain(all, looks, peer)) return false;
    __nanosleep(20);
  }
  return true;
}

// Waits at meeting place 0 or 1 for this block of all ranks: what they wrote before is then visible to all threads of
// the block. False: somebody did not come.
__device__ inline bool meet(const AllReduce& all, int place, unsigned epoch) {
  __shared__ SharedArray<bool, kMaxRanks> came;
  const int block = (place * kAllReduceBlocks + int(blockIdx.x)) * kMaxRanks, peer = int(threadIdx.x);
  __syncthreads();
  if (peer < all.ranks) {
    store_release(all.peers.flags[peer] + block + all.rank, epoch);
    came[peer] = comes(all, all.peers.flags[all.rank] + block + peer, epoch, peer);
  }
  __syncthreads();
  bool all_came = true;
  for (int rank = 0; rank < all.ranks; ++rank) all_came = all_came && came[rank];
  return all_came;
}

// Whether this block is the last of `count` that comes here; it then sees what the others wrote before they came, and
// the counter is 0 again. Device scope is enough: these are blocks of one grid.
__device__ inline bool last_to_come(unsigned* counter, unsigned count) {
  __shared__ SharedArray<bool, 1> last;
  __syncthreads();
  if (count == 1) return true;
  if (threadIdx.x == 0) {
    last[0] = add_acquire_release(counter, 1) + 1 == count;
    if (last[0]) *counter = 0;
  }
  __syncthreads();
  return last[0];
}

// The block's end of the epoch.
__device__ inline void leave(const AllReduce& all, unsigned epoch) {
  if (last_to_come(all.counters + kBlocksDone, gridDim.x) && threadIdx.x == 0) all.counters[kEpoch] = epoch;
}

}  // namespace pleat::cuda
