#pragma once
#include <memory>

#include "kernels/cuda/all_reduce.h"
#include "kernels/cuda/host_word.h"
#include "parallel/device/device_sum.h"
#include "parallel/device/sum_orders.h"

namespace pleat {

// Each rank reads the others' memory in one launch (kernels/cuda/all_reduce.h). Of ranks that are threads of one
// process and share a device.
class PeerSum final : public DeviceSum {
 public:
  // Whether these ranks can: a collective call, with the same answer on all.
  static bool possible(Communicator& communicator);

  // Collective. capacity: floats of the largest message, most_nodes * rows * d, the same on all ranks.
  PeerSum(Communicator& communicator, int64_t capacity);
  ~PeerSum() override;  // where an error ends it, it ends the others' waits
  void all_reduce(cuda::StreamHandle stream, const char* name, const TreeExchange& exchange, int rows, int d,
                  const float* mine, float* out) override;
  void all_reduce_add_norm(cuda::StreamHandle stream, const char* name, const TreeExchange& exchange, int rows, int d,
                           const float* mine, const float* bias, const cuda::Norm& norm, float* residual,
                           float* y) override;
  void wait(const cuda::Stream& stream) override;
  bool in_stream_order() const override { return true; }

 private:
  struct Memory;  // that the others read
  const cuda::AllReduce& side();

  Communicator& communicator_;
  cuda::AllReduce side_;
  std::vector<std::shared_ptr<Memory>> peers_;  // [ranks], alive as long as a rank may look at them
  cuda::DeviceArray<unsigned> counters_;
  cuda::HostWord status_;
  cuda::Event end_;  // of what a wait is for
  SumOrders orders_;
};

}  // namespace pleat
