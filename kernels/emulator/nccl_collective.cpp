#include "kernels/emulator/nccl_collective.h"

#include <cstring>

#include "kernels/emulator/block.h"

namespace pleat::emulator {

Collective::Collective(ncclComm& comm, Operation operation, const void* send, void* receive, size_t count)
    : comm_(&comm),
      aborted_(comm.aborted),
      world_(comm.world),
      use_(comm.uses),
      operation_(operation),
      send_(static_cast<const float*>(send)),
      receive_(static_cast<float*>(receive)),
      count_(count) {}

bool Collective::operator()() {
  const std::lock_guard lock(nccl_state().mutex);
  if (*aborted_) return true;
  if (stage_ == Stage::never_ends) comm_->error = nccl_state().has(NcclFaults::Kind::async_error, comm_->rank);
  if (stage_ == Stage::begins) come();
  if (stage_ == Stage::waits && meeting_->came == world_->ranks && !world_->broken) read();
  if (stage_ != Stage::has_read || meeting_->read < world_->ranks) return false;
  if (operation_ == Operation::all_reduce) std::memcpy(receive_, result_.data(), count_ * sizeof(float));
  return true;
}

void Collective::come() {
  const int number = comm_->collectives++;
  if (number >= nccl_state().faults.after && (nccl_state().has(NcclFaults::Kind::async_error, comm_->rank) ||
                                              nccl_state().has(NcclFaults::Kind::collective_never_ends, comm_->rank))) {
    stage_ = Stage::never_ends;
    return;
  }
  meeting_ = &world_->meetings[number];
  if (meeting_->came == 0) {
    meeting_->operation = operation_;
    meeting_->count = count_;
    meeting_->send.resize(size_t(world_->ranks));
  }
  if (meeting_->operation != operation_ || meeting_->count != count_)
    fail("the ranks meet in different collectives", Place::current());
  meeting_->send[size_t(comm_->rank)] = send_;
  ++meeting_->came;
  stage_ = Stage::waits;
}

// Sums are added in the order of the ranks, and kept until nobody reads what they replace.
void Collective::read() {
  result_.assign(operation_ == Operation::all_reduce ? count_ : 0, 0.0f);
  for (int rank = 0; rank < world_->ranks; ++rank) {
    const float* const from = meeting_->send[size_t(rank)];
    if (operation_ == Operation::all_gather) {
      float* const to = receive_ + size_t(rank) * count_;
      if (to != from) std::memcpy(to, from, count_ * sizeof(float));
    } else {
      for (size_t i = 0; i < count_; ++i) result_[i] = rank == 0 ? from[i] : result_[i] + from[i];
    }
  }
  ++meeting_->read;
  stage_ = Stage::has_read;
}

}  // namespace pleat::emulator
