#pragma once
#include <memory>
#include <vector>

#include "parallel/device/nccl_communicator.h"

namespace pleat {

// Device memory of NCCL's, of symmetric addresses where NCCL and the devices can: it is a window then, on all ranks.
class NcclMemory {
 public:
  // Collective, and the same size on all ranks. Error(failed), on every rank, where one has no room.
  NcclMemory(std::shared_ptr<NcclCommunicator> nccl, size_t bytes);
  ~NcclMemory();
  NcclMemory(const NcclMemory&) = delete;
  void* get() const { return memory_; }

  // Collective: where every rank's memory is for this device's kernels, which reach it by loads and stores. None, on
  // every rank, where there is no window, or a rank is out of another's reach.
  std::vector<void*> of_all_ranks() const { return nccl_->addresses(window_); }

 private:
  explicit NcclMemory(std::shared_ptr<NcclCommunicator> nccl);

  const std::shared_ptr<NcclCommunicator> nccl_;
  void* memory_ = nullptr;
  ncclWindow_vidmem* window_ = nullptr;
};

}  // namespace pleat
