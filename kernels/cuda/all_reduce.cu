#include "kernels/cuda/all_reduce.h"

#include <algorithm>

#include "kernels/cuda/meeting.h"
#include "kernels/cuda/norm_row.h"
#include "kernels/cuda/packets.h"
#include "kernels/cuda/sum_terms.h"

namespace pleat::cuda {
namespace {

constexpr int kThreads = 256;

// No kernel lets the next one start before its last wait for other ranks is over: where ranks share a device, that
// would take the room that theirs need.
//
// The message [rows, d] is cut into pieces of a row, the same on all ranks; block b works on pieces b, b + blocks, ...
struct Call {
  AllReduce all;
  SumOrder order;
  int rows = 0;
  int d = 0;
  int piece = 0;   // columns, a multiple of 4
  int pieces = 0;  // of a row
  const float* mine = nullptr;
  SumTarget target{};
  Norm norm{};
  float* y = nullptr;  // where there is a residual: its norm

  __device__ int64_t size() const { return int64_t(rows) * d; }
  // Where in a rank's packets is column i of the row in a term.
  __device__ int64_t packet(SumOrder::Term term, int64_t row, int i) const {
    return (term.rank * order.most_nodes + term.node) * size() + row * d + i;
  }
  // Of a block that sends and receives a row in packets.
  size_t packets_shared_bytes() const { return size_t(order.most_nodes + 1) * size_t(d) * sizeof(float); }
  // Every rank must be heard of.
  bool fits_packets() const {
    constexpr size_t kShared = 96u << 10;
    if (std::find(order.nodes, order.nodes + order.ranks, 0) != order.nodes + order.ranks) return false;
    return all.ranks * order.most_nodes * (int64_t(rows) * d) <= kPacketFloats && packets_shared_bytes() <= kShared;
  }
};

// each(row, begin, end) for the block's pieces: columns [begin, end).
template <class Each>
__device__ void for_pieces(const Call& call, Each each) {
  for (int i = int(blockIdx.x); i < call.rows * call.pieces; i += int(gridDim.x)) {
    const int begin = i % call.pieces * call.piece;
    each(i / call.pieces, begin, std::min(begin + call.piece, call.d));
  }
}

// each(column) by the threads of the block, kWidth columns each.
template <int kWidth, class Each>
__device__ void for_columns(int begin, int end, Each each) {
  for (int i = begin + int(threadIdx.x) * kWidth; i < end; i += kThreads * kWidth) each(i);
}

// The sum at element i of the message, of all ranks' terms, in their order.
template <int kWidth>
__device__ Floats<kWidth> sum_ranks(const Call& call, int64_t half, int64_t i) {
  return sum_terms<kWidth>(call.order, [&](SumOrder::Term term) {
    return call.all.peers.exchange[term.rank] + half + term.node * call.size() + i;
  });
}

// Copies the block's pieces of this rank's nodes to its exchange buffer [nodes][rows, d].
template <int kWidth>
__device__ void share(const Call& call, int64_t half) {
  float* const to = call.all.peers.exchange[call.all.rank] + half;
  for_pieces(call, [&](int row, int begin, int end) {
    for (int node = 0; node < call.order.nodes[call.all.rank]; ++node) {
      const int64_t at = node * call.size() + int64_t(row) * call.d;
      for_columns<kWidth>(begin, end, [&](int i) { Floats<kWidth>::load(call.mine + at + i).store(to + at + i); });
    }
  });
}

// Who delivers the last piece of a row normalises it.
template <int kWidth>
__device__ void end_piece(const Call& call, int row) {
  __shared__ NormSums sums;
  if (call.y == nullptr || !last_to_come(call.all.counters + kPiecesDone + row, unsigned(call.pieces))) return;
  const int64_t at = int64_t(row) * call.d;
  norm_row<kWidth>(call.d, call.norm, call.target.residual + at, call.y + at, sums);
}

// step 0: read the epoch, which says the half of the exchange buffers
// step 1: copy my nodes there
// step 2: meet
// step 3: add all ranks' nodes, in the given order, and deliver the sum; who ends a row normalises it
// step 4: the last block advances the epoch
template <int kWidth>
__global__ void __launch_bounds__(kThreads) one_shot(Call call) {
  unsigned epoch = 0;
  wait_for_previous();
  if (!enter(call.all, epoch)) return;
  const int64_t half = epoch % 2 * call.all.capacity;
  share<kWidth>(call, half);
  if (!meet(call.all, 0, epoch)) return;
  let_next_start();
  for_pieces(call, [&](int row, int begin, int end) {
    const int64_t at = int64_t(row) * call.d;
    for_columns<kWidth>(begin, end, [&](int i) { call.target.take(at + i, i, sum_ranks<kWidth>(call, half, at + i)); });
    end_piece<kWidth>(call, row);
  });
  leave(call.all, epoch);
}

// The thread's columns from i on of the terms [first, first + kLoads), those of other ranks when they have come. False:
// somebody's did not come.
template <int kWidth, int kLoads>
__device__ bool receive(const Call& call, unsigned epoch, int64_t row, int i, const float* given, int first,
                        Floats<kWidth> (&loaded)[kLoads]) {
  const AllReduce& all = call.all;
  const Packet* const packets = packets_of(all, all.rank, epoch);
  const auto comes_from_peer = [&](int k) {
    return first + k < call.order.terms && call.order.term[first + k].rank != all.rank;
  };
  Packets<kWidth> arriving[kLoads];
  for (unsigned looks = 1;; ++looks) {
    int missing = -1;
    for (int k = 0; k < kLoads; ++k)
      if (comes_from_peer(k))
        arriving[k] = Packets<kWidth>::look(packets + call.packet(call.order.term[first + k], row, i));
    for (int k = 0; k < kLoads; ++k)
      if (missing < 0 && comes_from_peer(k) && !arriving[k].have_come(epoch)) missing = call.order.term[first + k].rank;
    if (missing < 0) break;
    if (waits_in_vain(all, looks, missing)) return false;
    __nanosleep(20);
  }
  for (int k = 0; k < kLoads; ++k) {
    if (comes_from_peer(k))
      loaded[k] = arriving[k].numbers();
    else if (first + k < call.order.terms)
      loaded[k] = Floats<kWidth>::load(given + call.order.term[first + k].node * call.d + i);
  }
  return true;
}

// A block a row, whose threads keep to their columns.
//
// step 0: read my nodes, and the epoch, which says the half of the packets
// step 1: send my nodes to every other rank
// step 2: add all ranks' nodes, in the given order, as they come
// step 3: if all have come, deliver the sum and normalise the row
// step 4: the last block advances the epoch
template <int kWidth>
__global__ void __launch_bounds__(kNormSums* kWarp) by_packets(Call call) {
  constexpr int kLoads = 2;
  __shared__ NormSums sums;
  __shared__ SharedArray<bool, kNormSums> came;
  const AllReduce& all = call.all;
  const int d = call.d, nodes = call.order.nodes[all.rank], warp = int(threadIdx.x) / kWarp;
  const int64_t row = blockIdx.x, at = row * d;
  float* const given = dynamic_shared<float>();               // [nodes, d], then the sum [d]
  float* const residual = given + call.order.most_nodes * d;  // [d]
  if (call.y != nullptr) prefetch_norm<kWidth>(d, call.norm);
  wait_for_previous();
  for_columns_of_row<kWidth>(d, [&](int i) {
    for (int node = 0; node < nodes; ++node)
      Floats<kWidth>::load(call.mine + node * call.size() + at + i).store(given + node * d + i);
    if (call.target.residual != nullptr) Floats<kWidth>::load(call.target.residual + at + i).store(residual + i);
  });
  unsigned epoch = 0;
  if (!enter(all, epoch)) return;

  for (int step = 1; step < all.ranks; ++step) {
    const int peer = (all.rank + step) % all.ranks;
    Packet* const to = packets_of(all, peer, epoch);
    for_columns_of_row<kWidth>(d, [&](int i) {
      for (int node = 0; node < nodes; ++node)
        Packets<kWidth>::send(Floats<kWidth>::load(given + node * d + i), epoch,
                              to + call.packet({uint8_t(all.rank), uint8_t(node)}, row, i));
    });
  }

  bool all_came = true;
  for_columns_of_row<kWidth>(d, [&](int i) {
    const auto sum = add_terms<kWidth, kLoads>(call.order, [&](int first, Floats<kWidth>(&loaded)[kLoads]) {
      all_came = all_came && receive<kWidth, kLoads>(call, epoch, row, i, given, first, loaded);
    });
    sum.store(given + i);
  });
  const bool warps_came = __all_sync(~0u, all_came);
  if (threadIdx.x % kWarp == 0) came[warp] = warps_came;
  __syncthreads();
  for (int i = 0; i < int(blockDim.x) / kWarp; ++i) all_came = all_came && came[i];
  if (!all_came) return;
  let_next_start();

  for_columns_of_row<kWidth>(d, [&](int i) {
    auto sum = Floats<kWidth>::load(given + i);
    if (call.target.residual == nullptr) return sum.store(call.target.out + at + i);
    if (call.target.bias != nullptr) sum = sum + Floats<kWidth>::load(call.target.bias + i);
    const auto added = Floats<kWidth>::load(residual + i) + sum;
    added.store(call.target.residual + at + i);
    added.store(residual + i);
  });
  if (call.y != nullptr) norm_row<kWidth>(d, call.norm, residual, call.y + at, sums);
  leave(all, epoch);
}

// Each piece has a slice of so many columns a rank.
__device__ int slice_size(int columns, int ranks) { return ((columns + ranks - 1) / ranks + 3) / 4 * 4; }

// step 0: read the epoch, which says the half of the exchange buffers
// step 1: copy my nodes there
// step 2: meet
// step 3: add all ranks' nodes of my slices; the sums go where my first node was, whose slices only I read
// step 4: meet again
// step 5: read every slice from its rank and deliver it; who ends a row normalises it
// step 6: the last block advances the epoch
template <int kWidth>
__global__ void __launch_bounds__(kThreads) two_shot(Call call) {
  const AllReduce& all = call.all;
  unsigned epoch = 0;
  wait_for_previous();
  if (!enter(all, epoch)) return;
  const int64_t half = epoch % 2 * all.capacity;
  share<kWidth>(call, half);
  if (!meet(all, 0, epoch)) return;
  for_pieces(call, [&](int row, int begin, int end) {
    const int64_t at = int64_t(row) * call.d;
    const int slice = slice_size(end - begin, all.ranks), from = begin + all.rank * slice;
    for_columns<kWidth>(from, std::min(from + slice, end), [&](int i) {
      sum_ranks<kWidth>(call, half, at + i).store(all.peers.exchange[all.rank] + half + at + i);
    });
  });
  if (!meet(all, 1, epoch)) return;
  let_next_start();
  for_pieces(call, [&](int row, int begin, int end) {
    const int64_t at = int64_t(row) * call.d;
    const int slice = slice_size(end - begin, all.ranks);
    for_columns<kWidth>(begin, end, [&](int i) {
      const float* const from = all.peers.exchange[(i - begin) / slice] + half;
      call.target.take(at + i, i, Floats<kWidth>::load(from + at + i));
    });
    end_piece<kWidth>(call, row);
  });
  leave(all, epoch);
}

void run(cudaStream_t stream, Call& call) {
  const AllReduce& all = call.all;
  PLEAT_ASSERT(all.ranks == call.order.ranks);
  PLEAT_ASSERT(call.rows >= 1 && call.rows <= kAllReduceRows, call.rows, " rows");
  const int64_t size = int64_t(call.rows) * call.d;
  PLEAT_ASSERT(call.order.most_nodes * size <= all.capacity, "a message of ", call.rows, " x ", call.d);
  const bool vectors = call.d % 4 == 0;
  const bool two_shots = int64_t(sizeof(float)) * call.order.terms * size >= all.two_shot_bytes;
  if (!two_shots && call.fits_packets()) {
    const unsigned threads = unsigned(norm_threads(call.d, vectors ? 4 : 1));
    return launch_overlapping(vectors ? by_packets<4> : by_packets<1>,
                              {unsigned(call.rows), threads, call.packets_shared_bytes(), stream}, call);
  }
  const int for_every_thread = (call.d + 4 * kThreads - 1) / (4 * kThreads);
  const int most = std::clamp(for_every_thread, 1, std::max(1, kAllReduceBlocks / call.rows));
  call.piece = ((call.d + most - 1) / most + 3) / 4 * 4;
  call.pieces = (call.d + call.piece - 1) / call.piece;
  const unsigned blocks = unsigned(std::min(kAllReduceBlocks, call.rows * call.pieces));
  const auto kernel = two_shots ? (vectors ? two_shot<4> : two_shot<1>) : (vectors ? one_shot<4> : one_shot<1>);
  launch_overlapping(kernel, {blocks, kThreads, 0, stream}, call);
}

}  // namespace

AllReduceStatus::AllReduceStatus(unsigned word)
    : failed(word >> 31 != 0),
      aborted((word >> 30 & 1) != 0),
      rank(int(word >> 16 & 0xff)),
      block(int(word & 0xffff)) {}

void all_reduce(cudaStream_t stream, const AllReduce& all, const SumOrder& order, int rows, int d, const float* mine,
                float* out) {
  Call call{.all = all, .order = order, .rows = rows, .d = d, .mine = mine, .target = {.out = out}};
  run(stream, call);
}

void all_reduce_add_norm(cudaStream_t stream, const AllReduce& all, const SumOrder& order, int rows, int d,
                         const float* mine, const float* bias, const Norm& norm, float* residual, float* y) {
  Call call{.all = all,
            .order = order,
            .rows = rows,
            .d = d,
            .mine = mine,
            .target = {.bias = bias, .residual = residual},
            .norm = norm,
            .y = y};
  run(stream, call);
}

}  // namespace pleat::cuda
