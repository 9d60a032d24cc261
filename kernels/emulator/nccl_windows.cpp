// The emulated NCCL's memory and windows. As on a device, what a rank has given back is there for the others' kernels
// as long as they have the window.
#include <nccl.h>
#include <nccl_device.h>

#include "kernels/emulator/block.h"
#include "kernels/emulator/guarded_memory.h"
#include "kernels/emulator/nccl_collective.h"
#include "kernels/emulator/running_grids.h"
#include "kernels/emulator/window_pointer.h"

using namespace pleat::emulator;

extern "C" {

ncclResult_t ncclMemAlloc(void** memory, size_t bytes) {
  if (cudaMalloc(memory, bytes) != cudaSuccess) return ncclUnhandledCudaError;
  const std::lock_guard lock(nccl_state().mutex);
  nccl_state().memory[*memory] = std::shared_ptr<void>(*memory, free_guarded);
  return ncclSuccess;
}

ncclResult_t ncclMemFree(void* memory) {
  wait_for_running_grids("ncclMemFree");
  const std::lock_guard lock(nccl_state().mutex);
  return nccl_state().memory.erase(memory) == 1 ? ncclSuccess : ncclInvalidArgument;
}

ncclResult_t ncclCommWindowRegister(ncclComm_t handle, void* memory, size_t, ncclWindow_t* window, int flags) {
  const std::lock_guard lock(nccl_state().mutex);
  ncclComm& comm = checked(handle);
  if (flags != NCCL_WIN_COLL_SYMMETRIC || !nccl_state().memory.contains(memory)) return ncclInvalidArgument;
  if (nccl_state().has(NcclFaults::Kind::window_fails, comm.rank)) {
    comm.error = true;
    return ncclUnhandledCudaError;
  }
  const int number = comm.registrations++;
  std::shared_ptr<SharedWindow>& begun = comm.world->registering[number];
  if (!begun) begun = std::make_shared<SharedWindow>();
  const std::shared_ptr<SharedWindow> shared = begun;
  shared->memory[comm.rank] = nccl_state().memory[memory];
  if (++shared->registered == comm.world->ranks) comm.world->registering.erase(number);
  if (nccl_state().has(NcclFaults::Kind::window_refused, comm.rank)) return ncclInvalidUsage;
  const ncclResult_t result = begin_call(comm, [&comm, shared, memory, window] {
    if (shared->registered < comm.world->ranks) return false;
    *window = nccl_state().has(NcclFaults::Kind::no_window, comm.rank) ? nullptr : static_cast<ncclWindow_t>(memory);
    if (nccl_state().has(NcclFaults::Kind::host_window, comm.rank)) *window = reinterpret_cast<ncclWindow_t>(&comm);
    if (*window == nullptr) return true;
    comm.windows[*window] = shared;
    ++nccl_state().calls.windows;
    return true;
  });
  return result == ncclInProgress ? ncclSuccess : result;  // as NCCL 2.28.9 does, though it is in progress
}

ncclResult_t ncclCommWindowDeregister(ncclComm_t handle, ncclWindow_t window) {
  const std::lock_guard lock(nccl_state().mutex);
  ncclComm& comm = checked(handle);
  comm.used_early = comm.used_early || comm.unfinished;
  if (comm.used_early || comm.windows.erase(window) == 0) return ncclInvalidArgument;
  if (!comm.ready) return ncclInvalidUsage;
  --nccl_state().calls.windows;
  return ncclSuccess;
}

ncclTeam_t ncclTeamLsa(ncclComm_t handle) {
  const std::lock_guard lock(nccl_state().mutex);
  const ncclComm& comm = checked(handle);
  if (nccl_state().has(NcclFaults::Kind::small_team, comm.rank)) return {1, 0, 1};
  return {comm.world->ranks, comm.rank, 1};
}
}

void* ncclGetLsaPointer(ncclWindow_t window, size_t offset, int peer) {
  const std::lock_guard lock(nccl_state().mutex);
  for (const ncclComm_t comm : nccl_state().live)
    if (const auto at = comm->windows.find(window); at != comm->windows.end() && at->second->memory.contains(peer))
      return static_cast<char*>(at->second->memory[peer].get()) + offset;
  fail("a kernel asks for memory under a window that has ended, or of no rank",
       Block::current().block->grid().launched);
}
