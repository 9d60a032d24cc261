#include "kernels/emulator/emulated_nccl.h"

#include <cstring>
#include <map>
#include <memory>
#include <thread>

#include "kernels/emulator/block.h"
#include "kernels/emulator/nccl_collective.h"
#include "kernels/emulator/runtime.h"

namespace pleat::emulator {
namespace {

std::map<uint64_t, std::shared_ptr<World>> worlds;

ncclResult_t begin_collective(ncclComm_t handle, Operation operation, const void* send, void* receive, size_t count,
                              ncclDataType_t type, cudaStream_t stream) {
  const std::lock_guard lock(nccl_state().mutex);
  ncclComm& comm = checked(handle);
  if (type != ncclFloat32) return ncclInvalidArgument;
  ++(operation == Operation::all_gather ? nccl_state().calls.all_gathers : nccl_state().calls.all_reduces);
  return begin_call(comm,
                    [collective = Collective(comm, operation, send, receive, count), stream, looks = 0]() mutable {
                      if (++looks < 3) return false;
                      nccl_state().mutex.unlock();  // the stream may run it at once
                      enqueue_until(stream, collective);
                      nccl_state().mutex.lock();
                      return true;
                    });
}

void end(ncclComm_t comm) {
  nccl_state().live.erase(comm);
  delete comm;
}

}  // namespace

NcclState& nccl_state() {
  static NcclState* const state = new NcclState;  // outlives the threads that abort
  return *state;
}

ncclComm& checked(ncclComm_t comm) {
  if (!nccl_state().live.contains(comm)) fail("a call of NCCL with a communicator that has ended", Place::current());
  return *comm;
}

ncclResult_t begin_call(ncclComm& comm, std::function<bool()> unfinished) {
  comm.used_early = comm.used_early || comm.unfinished;
  if (comm.used_early) return ncclInvalidArgument;
  if (!comm.ready || comm.finalized) return ncclInvalidUsage;
  comm.unfinished = std::move(unfinished);
  return ncclInProgress;
}

void set_nccl_faults(const NcclFaults& new_faults) {
  const std::lock_guard lock(nccl_state().mutex);
  nccl_state().faults = new_faults;
  nccl_state().calls = {};
}

NcclCalls nccl_calls() {
  const std::lock_guard lock(nccl_state().mutex);
  return nccl_state().calls;
}

}  // namespace pleat::emulator

using namespace pleat::emulator;

extern "C" {

ncclResult_t ncclGetVersion(int* version) { return *version = NCCL_VERSION_CODE, ncclSuccess; }

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "NCCL operation in progress";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    default:
      return "unknown result code";
  }
}

const char* ncclGetLastError(ncclComm_t comm) {
  const std::lock_guard lock(nccl_state().mutex);
  if (comm != nullptr && checked(comm).used_early)
    return "Attempt to use communicator before the previous operation returned ncclSuccess";
  return comm != nullptr && checked(comm).error ? "a connection was closed\nby its peer" : "";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  const std::lock_guard lock(nccl_state().mutex);
  static uint64_t last = 0;
  *id = {};
  std::memcpy(id->internal, &++last, sizeof last);
  worlds[last] = std::make_shared<World>();
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* out, int ranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
  const std::lock_guard lock(nccl_state().mutex);
  uint64_t key = 0;
  std::memcpy(&key, id.internal, sizeof key);
  if (config->blocking != 0 || rank < 0 || rank >= ranks || !worlds.contains(key)) return ncclInvalidArgument;
  ncclComm_t comm = *out = new ncclComm;
  nccl_state().live.insert(comm);
  ++nccl_state().calls.started;
  comm->rank = rank;
  comm->world = worlds[key];
  comm->world->ranks = ranks;
  if (++comm->world->joined == ranks) worlds.erase(key);
  comm->unfinished = [comm] {
    comm->ready = comm->world->joined == comm->world->ranks &&
                  !nccl_state().has(NcclFaults::Kind::init_fails, comm->rank) &&
                  !nccl_state().has(NcclFaults::Kind::init_never_ends, comm->rank);
    return comm->ready;
  };
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t handle, ncclResult_t* result) {
  const std::lock_guard lock(nccl_state().mutex);
  ncclComm& comm = checked(handle);
  if (comm.unfinished && comm.unfinished()) comm.unfinished = nullptr;
  const bool cannot_start = !comm.ready && nccl_state().has(NcclFaults::Kind::init_fails, comm.rank);
  *result = cannot_start      ? ncclSystemError
            : comm.used_early ? ncclInvalidArgument
            : comm.error      ? ncclRemoteError
            : comm.unfinished ? ncclInProgress
                              : ncclSuccess;
  return ncclSuccess;
}

ncclResult_t ncclAllGather(const void* send, void* receive, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  return begin_collective(comm, Operation::all_gather, send, receive, count, type, stream);
}

ncclResult_t ncclAllReduce(const void* send, void* receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  if (op != ncclSum) return ncclInvalidArgument;
  return begin_collective(comm, Operation::all_reduce, send, receive, count, type, stream);
}

ncclResult_t ncclCommFinalize(ncclComm_t handle) {
  const std::lock_guard lock(nccl_state().mutex);
  ncclComm& comm = checked(handle);
  ++comm.world->finalizing;
  ++nccl_state().calls.finalized;
  return begin_call(comm, [&comm] {
    comm.finalized = comm.world->finalizing == comm.world->ranks && comm.uses.use_count() == 1;
    return comm.finalized;
  });
}

ncclResult_t ncclCommDestroy(ncclComm_t handle) {
  const std::lock_guard lock(nccl_state().mutex);
  const ncclComm& comm = checked(handle);
  ++nccl_state().calls.destroyed;
  nccl_state().calls.destroyed_in_error += comm.error || !comm.finalized;
  end(handle);
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t handle) {
  std::shared_ptr<char> uses;
  {
    const std::lock_guard lock(nccl_state().mutex);
    ncclComm& comm = checked(handle);
    ++nccl_state().calls.aborted;
    *comm.aborted = comm.world->broken = true;
    uses = comm.uses;
    end(handle);
  }
  while (uses.use_count() > 1) std::this_thread::yield();
  return ncclSuccess;
}
}
