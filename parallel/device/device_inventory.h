#pragma once
// Which device each rank takes, and whether a job can run on these.
#include <string>
#include <vector>

#include "kernels/cuda/device.h"
#include "parallel/communicator.h"

namespace pleat {

struct RankDevice {
  std::string host{};
  int visible = 0;        // devices that the rank sees
  std::string trouble{};  // why it has taken none; empty where it has
  cuda::DeviceInfo device{};
};

// "rank 3 (host node7, device 1, PCI 0000:41:00.0)"
std::string name_of(int rank, const RankDevice& device);

// The device of the local_rank-th rank of a host, where `visible` are seen; -1: there is none. A launcher that binds
// shows each rank its own device alone.
int choose_device(int local_rank, int visible);

// Of the calling thread.
RankDevice this_device();

// Collective: the calling thread takes its rank's device, where there is one. [ranks], the same on every rank.
std::vector<RankDevice> take_devices(Communicator& communicator);

// Throws Error(invalid) in one sentence, the same on every rank, where
//   a rank has no device;
//   two ranks have one device, unless they may share (for tests);
//   the devices are of different kinds: names or compute capabilities;
//   one has less than 90% of the free memory of another.
void check_devices(const std::vector<RankDevice>& ranks, bool may_share = false);

}  // namespace pleat
