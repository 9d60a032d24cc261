#pragma once
// Collectives over one memory region that all ranks see: ranks as threads of a process or as processes of a host.
//
// Every collective is one or more rounds. In round e a rank
//   1. writes its part into its slot number e % 2,
//   2. posts e,
//   3. waits until all ranks have posted at least e,
//   4. reads the others' slots.
// Nobody overwrites a slot that is still read: a rank writes it again in round e + 2, after it saw everybody post e +
// 1, which a rank does only when it has finished reading in round e. Large messages take several rounds.
#include <span>

#include "parallel/communicator.h"
#include "parallel/waiting.h"

namespace pleat {

class SharedExchange {
 public:
  // Of the region: zeroed, 64-byte aligned, the same on all ranks.
  static size_t region_bytes(int ranks);
  // The region's flag for Watch.
  static std::atomic<int32_t>& blamed(std::byte* region);

  SharedExchange(std::byte* region, int rank, int ranks, Watch watch);

  void tree_all_reduce(const TreeExchange& exchange, const float* mine, int64_t n, float* out);
  void all_gather(std::span<const std::byte> mine, std::span<const int64_t> counts,
                  std::byte* all);  // all may be nullptr
  void broadcast(std::span<std::byte> bytes);
  void barrier();
  const Watch& watch() const { return watch_; }

 private:
  struct Mailbox;
  std::byte* slot(int rank) const;  // in this round
  void begin_round() { ++round_; }
  void post_and_wait();
  void one_shot(const TreeExchange& exchange, const float* mine, int64_t stride, int64_t n, float* out);
  void two_shot(const TreeExchange& exchange, const float* mine, int64_t stride, int64_t n, float* out);
  void share_nodes(const TreeExchange& exchange, const float* mine, int64_t stride, int64_t n, const float* out,
                   int64_t first, int64_t end);

  const int rank_, ranks_;
  Watch watch_;
  Mailbox* const mailboxes_;  // [ranks]
  std::byte* const slots_;    // [2][ranks][kSlotBytes]
  int64_t round_ = 0;
  std::vector<const float*> values_;  // of the nodes, in order
};

}  // namespace pleat
