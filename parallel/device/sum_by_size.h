#pragma once
#include <memory>

#include "parallel/device/device_sum.h"
#include "parallel/shard_plan.h"

namespace pleat {

// Through peers' memory, and from some size of a rank's message on by NCCL. With Reduction::fast, where NCCL adds in an
// order of its own, a row's bits may depend on the rows that are summed with it.
class SumBySize final : public DeviceSum {
 public:
  // Whether there is a size to measure.   capacity: as that of the sums
  static bool may_help(int64_t capacity);

  // Collective: both, or `peers` alone where NCCL was not faster at the largest size.
  //   reduction, capacity  as of `nccl`
  static std::unique_ptr<DeviceSum> make(Communicator& communicator, std::unique_ptr<DeviceSum> peers,
                                         std::unique_ptr<DeviceSum> nccl, Reduction reduction, int64_t capacity);
  void all_reduce(cuda::StreamHandle stream, const char* name, const TreeExchange& exchange, int rows, int d,
                  const float* mine, float* out) override;
  void all_reduce_add_norm(cuda::StreamHandle stream, const char* name, const TreeExchange& exchange, int rows, int d,
                           const float* mine, const float* bias, const cuda::Norm& norm, float* residual,
                           float* y) override;
  void wait(const cuda::Stream& stream) override;
  bool in_stream_order() const override { return peers_->in_stream_order() && nccl_->in_stream_order(); }
  std::string way() const override;

 private:
  SumBySize(std::unique_ptr<DeviceSum> peers, std::unique_ptr<DeviceSum> nccl, Reduction reduction)
      : nccl_(std::move(nccl)), peers_(std::move(peers)), reduction_(reduction) {}
  DeviceSum& of(const TreeExchange& exchange, int64_t n) const;

  // Peers end first: NCCL's end waits for their kernels, which wait for other ranks until they are told not to.
  std::unique_ptr<DeviceSum> nccl_, peers_;
  const Reduction reduction_;
  int64_t nccl_bytes_ = 0;  // from which size on
};

}  // namespace pleat
