#include "parallel/device/staged_sum.h"

#include "parallel/device/device_inventory.h"

namespace pleat {

StagedSum::StagedSum(Communicator& communicator, int64_t capacity)
    : communicator_(communicator),
      who_(name_of(communicator.rank(), this_device())),
      nodes_(size_t(capacity)),
      sum_(size_t(capacity)),
      summed_(size_t(capacity)) {}

void StagedSum::all_reduce(cuda::StreamHandle stream, const char* name, const TreeExchange& exchange, int rows, int d,
                           const float* mine, float* out) {
  const int64_t n = int64_t(rows) * d;
  PLEAT_ASSERT(exchange.most_nodes * n <= int64_t(nodes_.size()), "a message of ", rows, " x ", d);
  const size_t nodes = exchange.nodes[size_t(communicator_.rank())].size(), bytes = size_t(n) * sizeof(float);
  with_context(who_, [&] {
    if (nodes > 0) cuda::copy_to_host(nodes_.data(), mine, nodes * bytes, stream);
    cuda::wait_for(stream);  // for the copy before from sum_, too
  });
  communicator_.tree_all_reduce(name, exchange, nodes_.data(), n, sum_.data());
  with_context(who_, [&] { cuda::copy_to_device(out, sum_.data(), bytes, stream); });
}

void StagedSum::all_reduce_add_norm(cuda::StreamHandle stream, const char* name, const TreeExchange& exchange, int rows,
                                    int d, const float* mine, const float* bias, const cuda::Norm& norm,
                                    float* residual, float* y) {
  all_reduce(stream, name, exchange, rows, d, mine, summed_.data());
  cuda::add_norm(stream, rows, d, {summed_.data(), 1, bias}, norm, residual, y);
}

void StagedSum::wait(const cuda::Stream& stream) {
  communicator_.ledger().enter("device", 0);
  with_context(who_, [&] { stream.wait(); });
  communicator_.ledger().leave();
}

}  // namespace pleat
