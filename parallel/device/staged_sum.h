#pragma once
#include <string>
#include <vector>

#include "parallel/device/device_sum.h"

namespace pleat {

// Through the host's memory and a Communicator: anywhere, and no faster than that.
class StagedSum final : public DeviceSum {
 public:
  // capacity: floats of the largest message, most_nodes * rows * d
  StagedSum(Communicator& communicator, int64_t capacity);
  void all_reduce(cuda::StreamHandle stream, const char* name, const TreeExchange& exchange, int rows, int d,
                  const float* mine, float* out) override;
  void all_reduce_add_norm(cuda::StreamHandle stream, const char* name, const TreeExchange& exchange, int rows, int d,
                           const float* mine, const float* bias, const cuda::Norm& norm, float* residual,
                           float* y) override;
  void wait(const cuda::Stream& stream) override;
  bool in_stream_order() const override { return false; }
  std::string way() const override { return "host"; }

 private:
  Communicator& communicator_;
  const std::string who_;  // rank, host, device
  std::vector<float> nodes_, sum_;
  cuda::DeviceArray<float> summed_;
};

}  // namespace pleat
