#include "parallel/cores.h"

#include <sched.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <utility>

#include "kernels/check.h"

namespace pleat {
namespace {

// One word of a file of Linux's about this hardware thread; empty where there is none.
std::string topology(size_t cpu, const char* name) {
  std::ifstream file(concat("/sys/devices/system/cpu/cpu", cpu, "/topology/", name));
  std::string word;
  file >> word;
  return word;
}

}  // namespace

CoreSet cores_of_process(int pid) {
  cpu_set_t mask;
  CoreSet cores;
  if (sched_getaffinity(pid, sizeof mask, &mask) != 0) return cores;
  for (int core = 0; core < CPU_SETSIZE; ++core) cores[core] = CPU_ISSET(core, &mask);
  return cores;
}

std::vector<CoreSet> whole_cores(const CoreSet& usable) {
  std::map<std::string, size_t> first_of;  // of the threads with the same siblings
  std::map<std::pair<int, size_t>, CoreSet> sorted;
  for (size_t cpu = 0; cpu < usable.size(); ++cpu) {
    if (!usable[cpu]) continue;
    const std::string siblings = topology(cpu, "thread_siblings_list");
    const size_t first = siblings.empty() ? cpu : first_of.emplace(siblings, cpu).first->second;
    sorted[{std::atoi(topology(cpu, "physical_package_id").c_str()), first}][cpu] = true;
  }
  std::vector<CoreSet> cores;
  cores.reserve(sorted.size());
  for (const auto& [place, core] : sorted) cores.push_back(core);
  return cores;
}

CoreSet share_of_cores(const std::vector<CoreSet>& cores, int index, int ranks) {
  const bool enough = cores.size() >= size_t(ranks);
  const size_t begin = enough ? cores.size() * index / ranks : 0;
  const size_t end = enough ? cores.size() * (index + 1) / ranks : cores.size();
  CoreSet share;
  for (size_t core = begin; core < end; ++core) share |= cores[core];
  return share;
}

void run_on(const CoreSet& cores) {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (cores[core]) CPU_SET(core, &mask);
  }
  if (sched_setaffinity(0, sizeof mask, &mask) != 0)
    throw Error(ErrorKind::invalid, concat("cannot bind to cores: ", std::strerror(errno)));
}

}  // namespace pleat
