#include "kernels/emulator/emulated_nccl.h"

#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "kernels/emulator/block.h"
#include "kernels/emulator/runtime.h"

namespace pleat::emulator {
namespace {

std::mutex mutex;  // of all that follows
NcclFaults faults;
NcclCalls calls;

enum class Operation { all_gather, all_reduce };

// The ranks' collectives of the same number.
struct Meeting {
  Operation operation{};
  size_t count = 0;
  std::vector<const float*> send;  // [ranks]
  int came = 0, read = 0;
};

// What the ranks of a communicator share.
struct World {
  int ranks = 0;
  int joined = 0, registering = 0, finalizing = 0;
  bool broken = false;  // a rank has aborted
  std::map<int, Meeting> meetings;
};

std::map<uint64_t, std::shared_ptr<World>> worlds;
std::set<ncclComm_t> live;

}  // namespace
}  // namespace pleat::emulator

struct ncclComm {
  std::shared_ptr<pleat::emulator::World> world;
  int rank = 0;
  int collectives = 0;  // begun by the stream
  bool ready = false, finalized = false, error = false;
  std::function<bool()> unfinished;  // the call in progress; true when it has ended
  std::shared_ptr<bool> aborted = std::make_shared<bool>(false);
  std::shared_ptr<char> uses =
      std::make_shared<char>();  // one by this, and one by each collective in a stream or graph
};

namespace pleat::emulator {
namespace {

bool has(NcclFaults::Kind kind, int rank) { return faults.kind == kind && (faults.rank < 0 || faults.rank == rank); }

ncclComm& checked(ncclComm_t comm) {
  if (!live.contains(comm)) fail("a call of NCCL with a communicator that has ended", Place::current());
  return *comm;
}

// A collective as a stream runs it.
class Collective {
 public:
  Collective(ncclComm& comm, Operation operation, const void* send, void* receive, size_t count)
      : comm_(&comm),
        aborted_(comm.aborted),
        world_(comm.world),
        use_(comm.uses),
        operation_(operation),
        send_(static_cast<const float*>(send)),
        receive_(static_cast<float*>(receive)),
        count_(count) {}

  bool operator()() {
    const std::lock_guard lock(mutex);
    if (*aborted_) return true;
    if (stage_ == Stage::never_ends) comm_->error = has(NcclFaults::Kind::async_error, comm_->rank);
    if (stage_ == Stage::begins) come();
    if (stage_ == Stage::waits && meeting_->came == world_->ranks && !world_->broken) read();
    if (stage_ != Stage::has_read || meeting_->read < world_->ranks) return false;
    if (operation_ == Operation::all_reduce) std::memcpy(receive_, result_.data(), count_ * sizeof(float));
    return true;
  }

 private:
  enum class Stage { begins, waits, has_read, never_ends };

  void come() {
    const int number = comm_->collectives++;
    if (number >= faults.after && (has(NcclFaults::Kind::async_error, comm_->rank) ||
                                   has(NcclFaults::Kind::collective_never_ends, comm_->rank))) {
      stage_ = Stage::never_ends;
      return;
    }
    meeting_ = &world_->meetings[number];
    if (meeting_->came == 0) {
      meeting_->operation = operation_;
      meeting_->count = count_;
      meeting_->send.resize(size_t(world_->ranks));
    }
    if (meeting_->operation != operation_ || meeting_->count != count_)
      fail("the ranks meet in different collectives", Place::current());
    meeting_->send[size_t(comm_->rank)] = send_;
    ++meeting_->came;
    stage_ = Stage::waits;
  }

  // Sums are added in the order of the ranks, and kept until nobody reads what they replace.
  void read() {
    result_.assign(operation_ == Operation::all_reduce ? count_ : 0, 0.0f);
    for (int rank = 0; rank < world_->ranks; ++rank) {
      const float* const from = meeting_->send[size_t(rank)];
      if (operation_ == Operation::all_gather) {
        float* const to = receive_ + size_t(rank) * count_;
        if (to != from) std::memcpy(to, from, count_ * sizeof(float));
      } else {
        for (size_t i = 0; i < count_; ++i) result_[i] = rank == 0 ? from[i] : result_[i] + from[i];
      }
    }
    ++meeting_->read;
    stage_ = Stage::has_read;
  }

  ncclComm* comm_;
  std::shared_ptr<bool> aborted_;
  std::shared_ptr<World> world_;
  std::shared_ptr<char> use_;
  Operation operation_;
  const float* send_;
  float* receive_;
  size_t count_;
  Stage stage_ = Stage::begins;
  Meeting* meeting_ = nullptr;
  std::vector<float> result_;
};

// The call goes on until comm.unfinished() says that it has ended.
ncclResult_t begin(ncclComm& comm, std::function<bool()> unfinished) {
  if (!comm.ready || comm.unfinished || comm.finalized) return ncclInvalidUsage;
  comm.unfinished = std::move(unfinished);
  return ncclInProgress;
}

ncclResult_t begin_collective(ncclComm_t handle, Operation operation, const void* send, void* receive, size_t count,
                              ncclDataType_t type, cudaStream_t stream) {
  const std::lock_guard lock(mutex);
  ncclComm& comm = checked(handle);
  if (type != ncclFloat32) return ncclInvalidArgument;
  ++(operation == Operation::all_gather ? calls.all_gathers : calls.all_reduces);
  return begin(comm, [collective = Collective(comm, operation, send, receive, count), stream, looks = 0]() mutable {
    if (++looks < 3) return false;
    mutex.unlock();  // the stream may run it at once
    enqueue_until(stream, collective);
    mutex.lock();
    return true;
  });
}

void end(ncclComm_t comm) {
  live.erase(comm);
  delete comm;
}

}  // namespace

void set_nccl_faults(const NcclFaults& new_faults) {
  const std::lock_guard lock(mutex);
  faults = new_faults;
  calls = {};
}

NcclCalls nccl_calls() {
  const std::lock_guard lock(mutex);
  return calls;
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
    case ncclInvalidUsage:
      return "invalid usage";
    default:
      return "unknown result code";
  }
}

const char* ncclGetLastError(ncclComm_t comm) {
  const std::lock_guard lock(mutex);
  return comm != nullptr && checked(comm).error ? "a connection was closed\nby its peer" : "";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  const std::lock_guard lock(mutex);
  static uint64_t last = 0;
  *id = {};
  std::memcpy(id->internal, &++last, sizeof last);
  worlds[last] = std::make_shared<World>();
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* out, int ranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
  const std::lock_guard lock(mutex);
  uint64_t key = 0;
  std::memcpy(&key, id.internal, sizeof key);
  if (config->blocking != 0 || rank < 0 || rank >= ranks || !worlds.contains(key)) return ncclInvalidArgument;
  ncclComm_t comm = *out = new ncclComm;
  live.insert(comm);
  ++calls.started;
  comm->rank = rank;
  comm->world = worlds[key];
  comm->world->ranks = ranks;
  ++comm->world->joined;
  comm->unfinished = [comm] {
    comm->ready = comm->world->joined == comm->world->ranks && !has(NcclFaults::Kind::init_never_ends, comm->rank);
    return comm->ready;
  };
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t handle, ncclResult_t* result) {
  const std::lock_guard lock(mutex);
  ncclComm& comm = checked(handle);
  if (comm.unfinished && comm.unfinished()) comm.unfinished = nullptr;
  *result = comm.error ? ncclRemoteError : comm.unfinished ? ncclInProgress : ncclSuccess;
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

ncclResult_t ncclMemAlloc(void** memory, size_t bytes) {
  return cudaMalloc(memory, bytes) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}
ncclResult_t ncclMemFree(void* memory) { return cudaFree(memory), ncclSuccess; }

ncclResult_t ncclCommWindowRegister(ncclComm_t handle, void* memory, size_t, ncclWindow_t* window, int flags) {
  const std::lock_guard lock(mutex);
  ncclComm& comm = checked(handle);
  if (flags != NCCL_WIN_COLL_SYMMETRIC) return ncclInvalidArgument;
  ++comm.world->registering;
  return begin(comm, [&comm, memory, window] {
    if (comm.world->registering < comm.world->ranks) return false;
    *window = has(NcclFaults::Kind::no_window, comm.rank) ? nullptr : static_cast<ncclWindow_t>(memory);
    calls.windows += *window != nullptr;
    return true;
  });
}

ncclResult_t ncclCommWindowDeregister(ncclComm_t handle, ncclWindow_t) {
  const std::lock_guard lock(mutex);
  if (ncclComm& comm = checked(handle); !comm.ready || comm.unfinished) return ncclInvalidUsage;
  --calls.windows;
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t handle) {
  const std::lock_guard lock(mutex);
  ncclComm& comm = checked(handle);
  ++comm.world->finalizing;
  ++calls.finalized;
  return begin(comm, [&comm] {
    comm.finalized = comm.world->finalizing == comm.world->ranks && comm.uses.use_count() == 1;
    return comm.finalized;
  });
}

ncclResult_t ncclCommDestroy(ncclComm_t handle) {
  const std::lock_guard lock(mutex);
  const ncclComm& comm = checked(handle);
  ++calls.destroyed;
  calls.destroyed_in_error += comm.error || !comm.finalized;
  end(handle);
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t handle) {
  std::shared_ptr<char> uses;
  {
    const std::lock_guard lock(mutex);
    ncclComm& comm = checked(handle);
    ++calls.aborted;
    *comm.aborted = comm.world->broken = true;
    uses = comm.uses;
    end(handle);
  }
  while (uses.use_count() > 1) std::this_thread::yield();
  return ncclSuccess;
}
}
