#pragma once
// What the ranks' kernels read of each other: between threads over one device by plain pointers, between processes of
// one host by CUDA IPC, and beyond that in windows of NCCL's (nccl_sum.h).
#include <memory>
#include <span>
#include <vector>

#include "kernels/cuda/all_reduce.h"
#include "kernels/cuda/host_word.h"
#include "kernels/cuda/ipc.h"
#include "parallel/communicator.h"

namespace pleat {

class PeerMemory {
 public:
  // Whether the ranks are threads of one process that have taken one device. Collective, as make() is.
  static bool of_threads(Communicator& communicator);
  // Plain pointers or CUDA IPC, for messages of up to `capacity` floats. nullptr, on every rank, where one of them
  // cannot reach another's.
  static std::unique_ptr<PeerMemory> make(Communicator& communicator, int64_t capacity);

  // Over memory that is there for this rank's kernels as long as `owner` is: ranks [ranks], of bytes(capacity) each,
  // whose flags each rank had zeroed before any knew this.
  PeerMemory(int64_t capacity, std::span<void* const> ranks, std::shared_ptr<const void> owner);
  static size_t bytes(int64_t capacity);
  static void zero_flags(void* memory);

  int64_t capacity() const { return capacity_; }  // floats, a multiple of 4
  const cuda::PeerBuffers& buffers() const { return buffers_; }
  cuda::HostWord& abort() const { return mine_->abort; }  // other than 0 ends this rank's waits
  void abort_waits() const;  // ends this rank's waits, and all ranks' where they are threads

 private:
  struct Memory {
    cuda::DeviceArray<unsigned char> bytes;  // flags, then the exchange buffer; none where it has another owner
    cuda::HostWord abort;
  };

  explicit PeerMemory(int64_t capacity);
  void share_between_threads(Communicator& communicator);
  bool share_between_processes(Communicator& communicator);
  void set(int rank, void* memory);

  const int64_t capacity_;
  std::shared_ptr<Memory> mine_;
  std::vector<std::shared_ptr<Memory>> threads_;                  // [ranks], alive as long as a rank may look at them
  std::vector<std::unique_ptr<cuda::ImportedMemory>> processes_;  // of the others
  std::shared_ptr<const void> owner_;
  cuda::PeerBuffers buffers_;
};

}  // namespace pleat
