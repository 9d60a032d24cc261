#pragma once
// A communicator of NCCL under the deadline of a Communicator: it starts without blocking, is asked how it fares in
// every wait, and is aborted at the first trouble. Nothing here names an NCCL type.
#include <cstddef>
#include <future>
#include <string>
#include <vector>

#include "kernels/cuda/device.h"
#include "parallel/communicator.h"

struct ncclComm;           // NCCL's names for what an ncclComm_t
struct ncclWindow_vidmem;  // and an ncclWindow_t point to

namespace pleat {

class NcclCommunicator {
 public:
  explicit NcclCommunicator(Communicator& host);
  ~NcclCommunicator();
  NcclCommunicator(const NcclCommunicator&) = delete;
  Communicator& host() const { return host_; }

  // Collective, before all else, for the calling thread's device. Errors here and below: see nccl_sum.h.
  void start();

  // all [ranks][count]: every rank's part gets to all; this rank's is there already.
  void all_gather(cuda::StreamHandle stream, float* all, size_t count);
  // values [count] = the sum of all ranks' values, in NCCL's order; the same bits on every rank.
  void all_reduce(cuda::StreamHandle stream, float* values, size_t count);

  // Until the stream has done all that was enqueued.
  void wait(const cuda::Stream& stream);

  // What NcclMemory is made of. Collective are the first, which has memory on every rank, the second, whose window is
  // nullptr on every rank where one has none (and NCCL has started again where one came to grief over it), and the
  // last, whose addresses are none where a rank cannot reach another.
  void* allocate(size_t bytes);
  void open_window(void* memory, size_t bytes, ncclWindow_vidmem*& window);
  void give_back(void* memory, ncclWindow_vidmem* window);
  std::vector<void*> addresses(ncclWindow_vidmem* window);  // [ranks]

  // Ends without the other ranks, and without waiting for NCCL.
  void abort();

 private:
  int close_window(ncclWindow_vidmem* window);
  bool close();
  bool stopped() const;
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
  bool can_have_windows_ = true;  // false: NCCL came to grief over one, and has started again
  int windows_ = 0;               // that it has had
  ncclComm* comm_ = nullptr;      // nullptr: not started, or aborted
  std::future<int> aborted_;
};

}  // namespace pleat
