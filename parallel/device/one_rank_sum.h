#pragma once
#include "parallel/device/device_sum.h"

namespace pleat {

// Of a job of one rank: what is left to add are its own nodes.
class OneRankSum final : public DeviceSum {
 public:
  void all_reduce(cuda::StreamHandle stream, const char* name, const TreeExchange& exchange, int rows, int d,
                  const float* mine, float* out) override;
  void all_reduce_add_norm(cuda::StreamHandle stream, const char* name, const TreeExchange& exchange, int rows, int d,
                           const float* mine, const float* bias, const cuda::Norm& norm, float* residual,
                           float* y) override;
  void wait(const cuda::Stream& stream) override { stream.wait(); }
  bool in_stream_order() const override { return true; }
  std::string way() const override { return "none"; }
};

}  // namespace pleat
