#include "parallel/device/nccl_memory.h"

namespace pleat {

NcclMemory::NcclMemory(std::shared_ptr<NcclCommunicator> nccl) : nccl_(std::move(nccl)) {}

// Delegates, so that memory without its window is given back by the destructor.
NcclMemory::NcclMemory(std::shared_ptr<NcclCommunicator> nccl, size_t bytes) : NcclMemory(std::move(nccl)) {
  memory_ = nccl_->allocate(bytes);
  nccl_->open_window(memory_, bytes, window_);
}

NcclMemory::~NcclMemory() {
  if (memory_ != nullptr) nccl_->give_back(memory_, window_);
}

}  // namespace pleat
