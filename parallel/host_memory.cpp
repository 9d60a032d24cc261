#include "parallel/host_memory.h"

#include <fstream>
#include <string>

namespace pleat {

HostMemory host_memory() {
  HostMemory memory;
  std::ifstream file("/proc/meminfo");
  std::string key;
  for (int64_t kib; file >> key >> kib; file.ignore(256, '\n')) {
    if (key == "MemTotal:") memory.total = kib * 1024;
    if (key == "MemAvailable:") memory.available = kib * 1024;
  }
  return memory;
}

}  // namespace pleat
