#pragma once
// What ranks of an emulated NCCL share, and their collectives. Included by emulated_nccl.cpp and nccl_*.cpp only.
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "kernels/emulator/emulated_nccl.h"

namespace pleat::emulator {

enum class Operation { all_gather, all_reduce };

// The ranks' collectives of the same number.
struct Meeting {
  Operation operation{};
  size_t count = 0;
  std::vector<const float*> send;  // [ranks]
  int came = 0, read = 0;
};

// The memory of all ranks under one window: there for each of them as long as it has the window, whoever else has given
// theirs back.
struct SharedWindow {
  int registered = 0;                           // ranks
  std::map<int, std::shared_ptr<void>> memory;  // by rank
};

// What the ranks of a communicator share.
struct World {
  int ranks = 0;
  int joined = 0, finalizing = 0;
  bool broken = false;  // a rank has aborted
  std::map<int, Meeting> meetings;
  std::map<int, std::shared_ptr<SharedWindow>> registering;  // by the registration's number, until all ranks have come
};

struct NcclState {
  std::mutex mutex;  // of all that is here, of every world and every communicator
  NcclFaults faults;
  NcclCalls calls;
  std::set<ncclComm_t> live;
  std::map<void*, std::shared_ptr<void>> memory;  // that NCCL gave and did not get back
  bool has(NcclFaults::Kind kind, int rank) const {
    return faults.kind == kind && (faults.rank < 0 || faults.rank == rank);
  }
};
NcclState& nccl_state();

// With the mutex held, as begin_call().
ncclComm& checked(ncclComm_t comm);

// The call goes on until comm.unfinished() says that it has ended. One that comes before the last has ended is refused,
// and the communicator is no good from then on.
ncclResult_t begin_call(ncclComm& comm, std::function<bool()> unfinished);

}  // namespace pleat::emulator

struct ncclComm {
  std::shared_ptr<pleat::emulator::World> world;
  int rank = 0;
  int collectives = 0;    // begun by the stream
  int registrations = 0;  // of windows
  std::map<ncclWindow_t, std::shared_ptr<pleat::emulator::SharedWindow>> windows;
  bool ready = false, finalized = false, error = false;
  bool used_early = false;           // while a call was in progress
  std::function<bool()> unfinished;  // the call in progress; true when it has ended
  std::shared_ptr<bool> aborted = std::make_shared<bool>(false);
  std::shared_ptr<char> uses =
      std::make_shared<char>();  // one by this, and one by each collective in a stream or graph
};

namespace pleat::emulator {

// A collective as a stream runs it: tried until it has ended, with the mutex free.
class Collective {
 public:
  Collective(ncclComm& comm, Operation operation, const void* send, void* receive, size_t count);
  bool operator()();

 private:
  enum class Stage { begins, waits, has_read, never_ends };
  void come();
  void read();

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

}  // namespace pleat::emulator
