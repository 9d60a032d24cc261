#pragma once
// Sums over the ranks of what each has on its device. Every rank makes the same calls in the same order, as with a
// Communicator, which stays what steers and what carries everything else.
#include <string>

#include "kernels/cuda/norm.h"
#include "parallel/communicator.h"

namespace pleat {

class DeviceSum {
 public:
  virtual ~DeviceSum() = default;
  DeviceSum() = default;
  DeviceSum(const DeviceSum&) = delete;

  // Enqueues out [rows, d] = the tree sum of all ranks' nodes, bit for bit Communicator::tree_all_reduce()'s.
  //   mine  [nodes[rank]][rows, d] f32, on the device, as is out, which may be mine
  //   name  for the ledger, as a Communicator's: a literal
  virtual void all_reduce(cuda::StreamHandle stream, const char* name, const TreeExchange& exchange, int rows, int d,
                          const float* mine, float* out) = 0;

  // Enqueues residual += sum + bias; y = norm(residual), with the bits of all_reduce(), the addition and
  // cuda::add_norm().
  //   bias [d] or nullptr; residual, y [rows, d]; y may be mine
  virtual void all_reduce_add_norm(cuda::StreamHandle stream, const char* name, const TreeExchange& exchange, int rows,
                                   int d, const float* mine, const float* bias, const cuda::Norm& norm, float* residual,
                                   float* y) = 0;

  // Returns when the stream has done all that was enqueued. Throws Error(peer_lost) as a Communicator does, in one line
  // that names the late rank, where a rank did not come within the deadline.
  virtual void wait(const cuda::Stream& stream) = 0;

  // Whether a graph may capture the calls: they wait for no host.
  virtual bool in_stream_order() const = 0;

  // "peers", "nccl", "host"; "peers, NCCL from 4 MiB on", of a rank's message; "none" for one rank.
  virtual std::string way() const = 0;
};

}  // namespace pleat
