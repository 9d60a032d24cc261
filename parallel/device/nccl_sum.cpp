#include "parallel/device/nccl_sum.h"

#include "kernels/cuda/gathered_sum.h"
#include "parallel/device/nccl_memory.h"
#include "parallel/device/sum_orders.h"

namespace pleat {
namespace {

class NcclSum final : public DeviceSum {
 public:
  NcclSum(std::shared_ptr<NcclCommunicator> nccl, Reduction reduction, int64_t capacity)
      : communicator_(nccl->host()),
        reduction_(reduction),
        capacity_(capacity),
        nccl_(std::move(nccl)),
        memory_(nccl_, size_t(communicator_.ranks() * capacity) * sizeof(float)) {}

  void all_reduce(cuda::StreamHandle stream, const char* name, const TreeExchange& exchange, int rows, int d,
                  const float* mine, float* out) override {
    const cuda::SumOrder& order = share(stream, name, exchange, int64_t(rows) * d, mine);
    cuda::sum_gathered(stream, order, rows, d, buffer(), out);
  }

  void all_reduce_add_norm(cuda::StreamHandle stream, const char* name, const TreeExchange& exchange, int rows, int d,
                           const float* mine, const float* bias, const cuda::Norm& norm, float* residual,
                           float* y) override {
    const cuda::SumOrder& order = share(stream, name, exchange, int64_t(rows) * d, mine);
    cuda::add_gathered(stream, order, rows, d, buffer(), bias, residual);
    cuda::add_norm(stream, rows, d, {}, norm, residual, y);
  }

  void wait(const cuda::Stream& stream) override {
    communicator_.ledger().enter("device", 0);
    nccl_->wait(stream);
    communicator_.ledger().leave();
  }

  bool in_stream_order() const override { return true; }
  std::string way() const override { return "nccl"; }

 private:
  float* buffer() const { return static_cast<float*>(memory_.get()); }

  // Enqueues what brings all ranks' nodes of n floats, or their sum, to this rank. Returns how to add what is then in
  // the exchange buffer.
  const cuda::SumOrder& share(cuda::StreamHandle stream, const char* name, const TreeExchange& exchange, int64_t n,
                              const float* mine) {
    PLEAT_ASSERT(int(exchange.nodes.size()) == communicator_.ranks(), "the exchange is for other ranks");
    PLEAT_ASSERT(exchange.most_nodes * n <= capacity_, "a message of ", exchange.most_nodes, " x ", n);
    const size_t bytes = exchange.nodes[size_t(communicator_.rank())].size() * size_t(n) * sizeof(float);
    communicator_.ledger().enter(name, int64_t(bytes));
    const cuda::SumOrder& order = reduction_ == Reduction::fast && exchange.most_nodes == 1
                                      ? add(stream, n, mine, bytes)
                                      : gather(stream, exchange, n, mine, bytes);
    communicator_.ledger().leave();
    return order;
  }

  const cuda::SumOrder& add(cuda::StreamHandle stream, int64_t n, const float* mine, size_t bytes) {
    if (bytes > 0)
      cuda::copy_on_device(buffer(), mine, bytes, stream);
    else
      cuda::zero(buffer(), size_t(n) * sizeof(float), stream);
    nccl_->all_reduce(stream, buffer(), size_t(n));
    return one_sum_;
  }

  // A rank with fewer nodes than others sends what is left in its place.
  const cuda::SumOrder& gather(cuda::StreamHandle stream, const TreeExchange& exchange, int64_t n, const float* mine,
                               size_t bytes) {
    const cuda::SumOrder& order = orders_.of(exchange);
    const int64_t part = order.most_nodes * n;
    cuda::copy_on_device(buffer() + communicator_.rank() * part, mine, bytes, stream);
    nccl_->all_gather(stream, buffer(), size_t(part));
    return order;
  }

  Communicator& communicator_;
  const Reduction reduction_;
  const int64_t capacity_;
  const cuda::SumOrder one_sum_ = cuda::SumOrder::by_rank(1);
  SumOrders orders_;
  const std::shared_ptr<NcclCommunicator> nccl_;
  const NcclMemory memory_;  // [ranks][capacity]
};

}  // namespace

bool has_nccl() { return true; }

std::shared_ptr<NcclCommunicator> start_nccl(Communicator& communicator) {
  if (const std::string why = cuda::why_no_device(); !why.empty())
    throw Error(ErrorKind::unimplemented,
                concat("rank ", communicator.rank(), ": NCCL has no CUDA device to start on: ", why));
  auto nccl = std::make_shared<NcclCommunicator>(communicator);
  nccl->start();
  return nccl;
}

void abandon(NcclCommunicator& nccl) { nccl.abort(); }

std::unique_ptr<DeviceSum> nccl_sum(const std::shared_ptr<NcclCommunicator>& nccl, Reduction reduction,
                                    int64_t capacity) {
  return std::make_unique<NcclSum>(nccl, reduction, capacity);
}

}  // namespace pleat
