#include "parallel/host_memory.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <string>

namespace pleat {
namespace {

namespace fs = std::filesystem;

// What a file of one number says; nothing where it says "max", or is not there.
std::optional<int64_t> number_in(const fs::path& path) {
  std::ifstream file(path);
  int64_t number = 0;
  return file >> number ? std::optional(number) : std::nullopt;
}

// The names of one version's files.
struct Names {
  const char *limit, *used, *inactive, *active;
};

void keep_within(const fs::path& group, const Names& names, HostMemory& memory) {
  const std::optional<int64_t> limit = number_in(group / names.limit), used = number_in(group / names.used);
  if (!limit || !used) return;
  int64_t files = 0;
  std::ifstream statistics(group / "memory.stat");
  std::string key;
  for (int64_t bytes; statistics >> key >> bytes;)
    if (key == names.inactive || key == names.active) files += bytes;
  memory.total = std::min(memory.total, *limit);
  memory.available = std::clamp<int64_t>(*limit - (*used - files), 0, memory.available);
}

// A container often sees its own group as the root of the hierarchy, whatever /proc calls it.
void keep_within_groups(const fs::path& hierarchy, fs::path group, const Names& names, HostMemory& memory) {
  for (;; group = group.parent_path()) {
    keep_within(hierarchy / group.relative_path(), names, memory);
    if (group == group.parent_path()) return;
  }
}

}  // namespace

HostMemory host_memory(const fs::path& root) {
  HostMemory memory;
  std::ifstream file(root / "proc/meminfo");
  std::string key;
  for (int64_t kib; file >> key >> kib; file.ignore(256, '\n')) {
    if (key == "MemTotal:") memory.total = kib * 1024;
    if (key == "MemAvailable:") memory.available = kib * 1024;
  }
  // Lines of "number:controllers:path"; version 2 names no controllers.
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const fs::path group = line.substr(second + 1), hierarchies = root / "sys/fs/cgroup";
    if (controllers == ",,")
      keep_within_groups(hierarchies, group, {"memory.max", "memory.current", "inactive_file", "active_file"}, memory);
    if (controllers.find(",memory,") != std::string::npos)
      keep_within_groups(hierarchies / "memory", group,
                         {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file"},
                         memory);
  }
  return memory;
}

}  // namespace pleat
