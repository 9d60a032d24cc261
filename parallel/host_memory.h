#pragma once
// The memory of this host.
#include <cstdint>

namespace pleat {

struct HostMemory {
  int64_t total = 0;      // bytes; 0 when unknown
  int64_t available = 0;  // without swapping
};

HostMemory host_memory();

}  // namespace pleat
