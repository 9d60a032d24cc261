#include "parallel/device/sum_by_size.h"

#include "parallel/device/measured_ways.h"

namespace pleat {
namespace {

// Smaller messages are over before NCCL has begun.
constexpr int64_t kFirstMeasured = 256 << 10, kLastMeasured = 16 << 20;

MeasuredRows measured_rows(int64_t capacity) {
  return {kMeasuredWidth * int64_t(sizeof(float)), kFirstMeasured, kLastMeasured, capacity};
}

}  // namespace

bool SumBySize::may_help(int64_t capacity) { return !measured_rows(capacity).none(); }

std::unique_ptr<DeviceSum> SumBySize::make(Communicator& communicator, std::unique_ptr<DeviceSum> peers,
                                           std::unique_ptr<DeviceSum> nccl, Reduction reduction, int64_t capacity) {
  std::unique_ptr<SumBySize> both(new SumBySize(std::move(peers), std::move(nccl), reduction));
  const TreeExchange exchange(communicator.ranks(), communicator.ranks());
  const auto enqueue = [&](bool by_nccl, const cuda::Stream& stream, int rows, float* values) {
    DeviceSum& sum = by_nccl ? *both->nccl_ : *both->peers_;
    sum.all_reduce(stream.get(), "peers or NCCL", exchange, rows, kMeasuredWidth, values, values);
  };
  both->nccl_bytes_ = measure_second_way(communicator, "peers or NCCL", measured_rows(capacity), enqueue,
                                         [&](const cuda::Stream& stream) { both->wait(stream); });
  if (both->nccl_bytes_ == kNever) return std::move(both->peers_);
  return both;
}

// Of several sums a rank NCCL makes no fast one, and that has not been measured.
DeviceSum& SumBySize::of(const TreeExchange& exchange, int64_t n) const {
  const bool as_measured = reduction_ == Reduction::invariant || exchange.most_nodes == 1;
  return as_measured && exchange.most_nodes * n * int64_t(sizeof(float)) >= nccl_bytes_ ? *nccl_ : *peers_;
}

void SumBySize::all_reduce(cuda::StreamHandle stream, const char* name, const TreeExchange& exchange, int rows, int d,
                           const float* mine, float* out) {
  of(exchange, int64_t(rows) * d).all_reduce(stream, name, exchange, rows, d, mine, out);
}

void SumBySize::all_reduce_add_norm(cuda::StreamHandle stream, const char* name, const TreeExchange& exchange, int rows,
                                    int d, const float* mine, const float* bias, const cuda::Norm& norm,
                                    float* residual, float* y) {
  of(exchange, int64_t(rows) * d).all_reduce_add_norm(stream, name, exchange, rows, d, mine, bias, norm, residual, y);
}

// A graph has both kinds of calls without saying so here. NCCL's wait ends whatever becomes of peers' kernels, theirs
// says whether one gave up.
void SumBySize::wait(const cuda::Stream& stream) {
  nccl_->wait(stream);
  peers_->wait(stream);
}

std::string SumBySize::way() const {
  const int64_t kib = nccl_bytes_ >> 10;
  return concat(peers_->way(), ", NCCL from ", kib % 1024 == 0 ? kib / 1024 : kib, kib % 1024 == 0 ? " MiB" : " KiB",
                " on");
}

}  // namespace pleat
