#pragma once
// Collectives by MPI messages, each rank to each: for jobs on several hosts. Not included outside parallel/mpi_*.cpp.
#include <mpi.h>

#include <span>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/waiting.h"

namespace pleat {

// Throws Error(peer_lost) with MPI's own words.
void check_mpi(int code, const char* call);

class MessageExchange {
 public:
  MessageExchange(MPI_Comm ranks_comm, int rank, int ranks, Watch watch);

  void tree_all_reduce(const TreeExchange& exchange, const float* mine, int64_t n, float* out);
  void all_gather(std::span<const std::byte> mine, std::span<const int64_t> counts, std::byte* all);
  void gather(std::span<const std::byte> mine, std::span<const int64_t> counts, std::byte* all);
  void broadcast(std::span<std::byte> bytes);
  void barrier();
  const Watch& watch() const { return watch_; }

 private:
  void send(int peer, std::span<const std::byte> bytes);
  void receive(int peer, std::span<std::byte> bytes);
  void finish();  // all that was begun

  MPI_Comm comm_;
  const int rank_, ranks_;
  Watch watch_;
  std::vector<MPI_Request> sends_, receives_;  // [ranks], by peer
  std::vector<float> gathered_;                // nodes of all ranks
  std::vector<int64_t> counts_;                // [ranks]
  std::vector<const float*> values_;
};

}  // namespace pleat
