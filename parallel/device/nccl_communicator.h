#pragma once
// A communicator of NCCL under the deadline of a Communicator: it starts without blocking, is asked how it fares in
// every wait, and is aborted at the first trouble. Nothing here names an NCCL type.
#include <cstddef>
#include <future>
#include <string>

#include "kernels/cuda/device.h"
#include "parallel/communicator.h"

struct ncclComm;           // NCCL's names for what an ncclComm_t
struct ncclWindow_vidmem;  // and an ncclWindow_t point to

namespace pleat {

class NcclCommunicator {
 public:
  // Collective, for the calling thread's device. Errors here and below: see nccl_sum.h.
  NcclCommunicator(Communicator& host, size_t exchange_floats);
  ~NcclCommunicator();
  NcclCommunicator(const NcclCommunicator&) = delete;

  // The memory that the following calls work in, of symmetric addresses where NCCL and the devices can.
  float* exchange() const { return exchange_; }

  // exchange [ranks][count]: every rank's part gets to all; this rank's is there already.
  void all_gather(cuda::StreamHandle stream, size_t count);
  // exchange [count] = the sum of all ranks' values, in NCCL's order; the same bits on every rank.
  void all_reduce(cuda::StreamHandle stream, size_t count);

  // Until the stream has done all that was enqueued.
  void wait(const cuda::Stream& stream);

 private:
  explicit NcclCommunicator(Communicator& host);
  void start();
  void share_memory(size_t bytes);
  bool close();
  void abort();
  int state() const;
  int settled(int result) const;
  void finish(int result, const char* what);
  [[noreturn]] void give_up(int result, const char* what);
  template <class Done>
  bool in_time(Done done) const;

  Communicator& host_;
  const std::string who_;  // rank, host, device, interface
  cuda::Event step_end_;
  bool started_ = false;
  ncclComm* comm_ = nullptr;  // nullptr: not started, or aborted
  float* exchange_ = nullptr;
  ncclWindow_vidmem* window_ = nullptr;
  std::future<int> aborted_;
};

}  // namespace pleat
