#pragma once
// All-reduce of a decode step between the GPUs of one host: each rank reads the others' memory, in one launch, which
// can end with the residual addition and normalisation that follow. All ranks get the same bits.
//
// In packets: every rank sends what it gives to the others, for small messages (packets.h). One-shot: every rank reads
// everything and adds it. Two-shot: every rank adds its slices, the others copy the result; less to read (2/R of it),
// one wait more. All add in the same order, which the caller gives (sum_order.h).
//
// A call waits for the same call of the other ranks: all make the same calls in the same order, on one stream each
// (a captured graph is fine), and no two calls of a rank may overlap. Block b of a rank waits for block b of the others
// only. At most kAllReduceBlocks blocks of 256 threads, or where packets are sent as many of up to 1024 as there are
// rows, must find room beside what else runs.

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/norm.h"
#include "kernels/cuda/sum_order.h"

namespace pleat::cuda {

constexpr int kAllReduceBlocks = 128;
constexpr int kAllReduceRows = 1024;
constexpr int64_t kPacketFloats = 64 << 10;  // all ranks' nodes together of a message that is sent in packets
// Words of a rank's flags, the packets that are sent to it behind them, and of its counters.
constexpr size_t kMeetingFlags = size_t(2) * kAllReduceBlocks * kMaxRanks;
constexpr size_t kAllReduceFlags = kMeetingFlags + 2 * 2 * kPacketFloats;
constexpr size_t kAllReduceCounters = 3 + kAllReduceRows;

// Where the ranks' memory is for this rank: plain pointers between threads, mapped ones (CUDA IPC, NCCL windows)
// between processes.
struct PeerBuffers {
  float* exchange[kMaxRanks] = {};  // [ranks] [2][capacity], aligned to 16 bytes
  unsigned* flags[kMaxRanks] = {};  // [ranks] [kAllReduceFlags], all 0 before any rank's first call
};

// A rank's side of the all-reduce. Its buffers outlive its calls; capacity and two_shot_bytes are the same on all
// ranks.
struct AllReduce {
  int rank = 0;
  int ranks = 1;
  PeerBuffers peers{};
  int64_t capacity = 0;             // floats, a multiple of 4: of the largest message, see below
  int64_t two_shot_bytes = 0;       // two-shot where each rank would otherwise read so many bytes or more
  unsigned* counters = nullptr;     // [kAllReduceCounters] this device's memory, from 8 bytes on, all 0 at first
  unsigned spins = 0;               // so many looks at a flag, some 0.1 to 1 us each, then a wait has failed
  const unsigned* abort = nullptr;  // a word of the host's memory: other than 0 ends every wait
  unsigned* status = nullptr;       // a word of the host's memory, 0 at first: see AllReduceStatus
};

// What a rank's status word says. A call whose wait failed, and every later one, returns without touching its outputs
// further: partly written residuals are the caller's to give up, as is this AllReduce. Of several blocks that waited in
// vain, any one is named. A rank that gave up makes others late in turn; the one it names was late first.
struct AllReduceStatus {
  bool failed = false;
  bool aborted = false;  // by the abort word, not by the bound
  int rank = 0;          // whom it waited for
  int block = 0;
  explicit AllReduceStatus(unsigned word);
};

// out = sum of all ranks' nodes in `order`.
//   mine [nodes[rank]][rows, d], out [rows, d] f32, aligned to 16 bytes; out may be mine.
//   1 <= rows <= kAllReduceRows; order.most_nodes * rows * d <= capacity
void all_reduce(StreamHandle stream, const AllReduce& all, const SumOrder& order, int rows, int d, const float* mine,
                float* out);

// residual += sum + bias; y = norm(residual): the bits of all_reduce(), the addition and add_norm() (norm.h).
//   bias [d] or nullptr; residual, y [rows, d] f32, aligned to 16 bytes; y may be mine.
void all_reduce_add_norm(StreamHandle stream, const AllReduce& all, const SumOrder& order, int rows, int d,
                         const float* mine, const float* bias, const Norm& norm, float* residual, float* y);

}  // namespace pleat::cuda
