#pragma once
// Numbers on their way to another rank, each with the epoch (meeting.h) in which it was sent beside it: who reads both
// at once knows that the number has come, and needs no flag, fence or second look (NCCL's LL protocol). Included by .cu
// files only.
//
// packets[rank][half] in the memory of `rank` holds [ranks][most_nodes][rows, d] packets of the message, of each rank
// what it gives. Halves are used by turns, as those of the exchange buffers are: a packet of epoch e is written over in
// e + 2, after its reader was heard of in e + 1. Whatever a place held before has another epoch, unless nothing was
// sent there for 2^32 calls.
#include "device_language.h"
#include "kernels/cuda/all_reduce.h"
#include "kernels/cuda/floats.h"
#include "kernels/cuda/meeting.h"

namespace pleat::cuda {

using Packet = uint64_t;

__device__ inline Packet* packets_of(const AllReduce& all, int rank, unsigned epoch) {
  return reinterpret_cast<Packet*>(all.peers.flags[rank] + kMeetingFlags) + epoch % 2 * kPacketFloats;
}

__device__ inline Packet packed(float value, unsigned epoch) { return Packet(epoch) << 32 | __float_as_uint(value); }

// Neighbouring packets.
template <int kWidth>
struct Packets {
  Packet at[kWidth];

  __device__ static void send(const Floats<kWidth>& x, unsigned epoch, Packet* to) {
    if constexpr (kWidth == 1)
      store_relaxed(to, packed(x.at[0], epoch));
    else
      for (int i = 0; i < kWidth; i += 2) store_relaxed(to + i, packed(x.at[i], epoch), packed(x.at[i + 1], epoch));
  }
  __device__ static Packets look(const Packet* from) {
    Packets out;
    if constexpr (kWidth == 1)
      out.at[0] = load_relaxed(from);
    else
      for (int i = 0; i < kWidth; i += 2) load_relaxed(from + i, out.at[i], out.at[i + 1]);
    return out;
  }
  __device__ bool have_come(unsigned epoch) const {
    bool come = true;
    for (int i = 0; i < kWidth; ++i) come = come && unsigned(at[i] >> 32) == epoch;
    return come;
  }
  __device__ Floats<kWidth> numbers() const {
    Floats<kWidth> out;
    for (int i = 0; i < kWidth; ++i) out.at[i] = __uint_as_float(unsigned(at[i]));
    return out;
  }
};

}  // namespace pleat::cuda
