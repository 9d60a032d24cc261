#pragma once
#include <memory>

#include "parallel/device/device_sum.h"
#include "parallel/device/peer_memory.h"
#include "parallel/device/sum_orders.h"

namespace pleat {

// Each rank reads the others' memory in one launch (kernels/cuda/all_reduce.h), in one shot or in two: what is faster
// here is measured at the start, and rank 0's clock decides for all.
class PeerSum final : public DeviceSum {
 public:
  // Collective; nullptr, on every rank, where there is no memory.
  static std::unique_ptr<PeerSum> over(std::unique_ptr<PeerMemory> memory, Communicator& communicator);
  // Over PeerMemory::make()'s. capacity: floats of the largest message, most_nodes * rows * d, the same on all ranks.
  static std::unique_ptr<PeerSum> make(Communicator& communicator, int64_t capacity) {
    return over(PeerMemory::make(communicator, capacity), communicator);
  }
  ~PeerSum() override;  // where an error ends it, it ends the waits of this rank, of threads the others' too
  void all_reduce(cuda::StreamHandle stream, const char* name, const TreeExchange& exchange, int rows, int d,
                  const float* mine, float* out) override;
  void all_reduce_add_norm(cuda::StreamHandle stream, const char* name, const TreeExchange& exchange, int rows, int d,
                           const float* mine, const float* bias, const cuda::Norm& norm, float* residual,
                           float* y) override;
  void wait(const cuda::Stream& stream) override;
  bool in_stream_order() const override { return true; }
  std::string way() const override { return "peers"; }
  int64_t two_shot_bytes() const { return side_.two_shot_bytes; }  // from which size on

 private:
  PeerSum(std::unique_ptr<PeerMemory> memory, Communicator& communicator);
  void measure();
  template <class Enqueue>
  void enter(const char* name, const TreeExchange& exchange, int64_t n, Enqueue enqueue);
  const cuda::AllReduce& side();

  Communicator& communicator_;
  const std::string who_;  // rank, host, device
  std::unique_ptr<PeerMemory> memory_;
  cuda::AllReduce side_;
  cuda::DeviceArray<unsigned> counters_;
  cuda::HostWord status_;
  cuda::Event end_;  // of what a wait is for
  SumOrders orders_;
};

}  // namespace pleat
