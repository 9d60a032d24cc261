#pragma once
// The memory of this host, or what its control groups (a container's, a Slurm job's) leave of it.
#include <cstdint>
#include <filesystem>

namespace pleat {

struct HostMemory {
  int64_t total = 0;      // bytes; 0 when unknown
  int64_t available = 0;  // without swapping; files in memory that can be read again count
};

// root: where /proc and /sys are.
HostMemory host_memory(const std::filesystem::path& root = "/");

}  // namespace pleat
