#pragma once
// What the ranks' kernels read of each other, where the ranks are on one host: threads over one device by plain
// pointers, processes by CUDA IPC.
#include <memory>
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
  // Buffers for messages of `capacity` floats, a multiple of 4. nullptr, on every rank, where one of them cannot reach
  // another's.
  static std::unique_ptr<PeerMemory> make(Communicator& communicator, int64_t capacity);

  const cuda::PeerBuffers& buffers() const { return buffers_; }
  cuda::HostWord& abort() const { return mine_->abort; }  // other than 0 ends this rank's waits
  void abort_waits() const;  // ends this rank's waits, and all ranks' where they are threads

 private:
  struct Memory {
    explicit Memory(int64_t capacity);
    cuda::DeviceArray<unsigned char> bytes;  // flags, then the exchange buffer
    cuda::HostWord abort;
  };

  explicit PeerMemory(int64_t capacity) : mine_(std::make_shared<Memory>(capacity)) {}
  void share_between_threads(Communicator& communicator);
  bool share_between_processes(Communicator& communicator);
  void set(int rank, unsigned char* memory);

  std::shared_ptr<Memory> mine_;
  std::vector<std::shared_ptr<Memory>> threads_;                  // [ranks], alive as long as a rank may look at them
  std::vector<std::unique_ptr<cuda::ImportedMemory>> processes_;  // of the others
  cuda::PeerBuffers buffers_;
};

}  // namespace pleat
