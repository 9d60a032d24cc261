#pragma once
// The part of NCCL that Pleat uses, between threads of this process over the emulated runtime's streams: communicators
// that do not block, all-gather and all-reduce of floats, windows. As NCCL does, calls return ncclInProgress and are
// enqueued when the communicator is asked how it fares, a call before the last one has ended spoils the communicator,
// and its end waits for graphs that captured its calls; what NCCL leaves undefined ends the process (block.h).
#include <nccl.h>

namespace pleat::emulator {

// What goes wrong, on one rank or (-1) on all.
struct NcclFaults {
  enum class Kind {
    none,
    init_fails,  // ncclSystemError
    init_never_ends,
    collective_never_ends,
    async_error,     // ncclRemoteError; the collective does not end either
    no_window,       // registration succeeds and gives none
    window_refused,  // ncclInvalidUsage
    window_fails,    // ncclUnhandledCudaError, and the communicator is no good; the others wait for that rank
    host_window,     // registration gives a handle of the host's, as where devices do not reach each other
    small_team,      // ranks do not reach each other's windows
  } kind = Kind::none;
  int rank = -1;
  int after = 0;  // collectives that go well
};

struct NcclCalls {
  int started = 0, finalized = 0, aborted = 0;
  int all_gathers = 0, all_reduces = 0;
  int destroyed = 0;
  int destroyed_in_error = 0;  // or without having been finalized
  int windows = 0;             // registered and not given back
};

// From now on, and counts anew.
void set_nccl_faults(const NcclFaults& faults);
NcclCalls nccl_calls();

}  // namespace pleat::emulator
