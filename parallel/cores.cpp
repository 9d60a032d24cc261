#include "parallel/cores.h"

#include <sched.h>

namespace pleat {

CoreSet cores_of_process(int pid) {
  cpu_set_t mask;
  CoreSet cores;
  if (sched_getaffinity(pid, sizeof mask, &mask) != 0) return cores;
  for (int core = 0; core < CPU_SETSIZE; ++core) cores[core] = CPU_ISSET(core, &mask);
  return cores;
}

}  // namespace pleat
