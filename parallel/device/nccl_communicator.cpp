#include "parallel/device/nccl_communicator.h"

#include <nccl.h>
#include <nccl_device.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <span>
#include <thread>

#include "kernels/check.h"
#include "parallel/device/device_inventory.h"
#include "parallel/device/nccl_window.h"
#include "parallel/one_decimal.h"

namespace pleat {
namespace {

constexpr std::chrono::seconds kAbortTakes{5};  // at most, else it is left alone

// Of the library, which may be another than the one whose header was there.
int version() {
  int code = 0;
  ncclGetVersion(&code);
  return code;
}

std::string named(int version) {
  return concat("NCCL ", version / 10000, ".", version / 100 % 100, ".", version % 100);
}

// In one line; NCCL keeps the last error of a communicator, or without one of the process.
std::string last_error(ncclComm_t comm) {
  const char* const said = ncclGetLastError(comm);
  std::string text = said != nullptr && *said != 0 ? said : "nothing";
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

std::string name_me(int rank) {
  const char* const interface = std::getenv("NCCL_SOCKET_IFNAME");
  std::string name = name_of(rank, this_device());
  name.back() = ',';
  return name + (interface != nullptr ? concat(" interface ", interface, ")")
                                      : " the interface that NCCL chose: NCCL_SOCKET_IFNAME is not set)");
}

bool of_a_peer(ncclResult_t result) { return result == ncclRemoteError || result == ncclSystemError; }

std::string seconds(std::chrono::nanoseconds time) { return one_decimal(double(time.count()) * 1e-9) + " s"; }

}  // namespace

NcclCommunicator::NcclCommunicator(Communicator& host) : host_(host), who_(name_me(host.rank())) {}

NcclCommunicator::~NcclCommunicator() {
  if (comm_ != nullptr && (std::uncaught_exceptions() > 0 || !close())) abort();
  stopped();
}

void NcclCommunicator::start() {
  struct {
    ncclResult_t result = ncclSuccess;
    ncclUniqueId id{};
  } hello;
  if (host_.rank() == 0) hello.result = ncclGetUniqueId(&hello.id);
  host_.broadcast("NCCL's id", std::as_writable_bytes(std::span(&hello, 1)));
  if (hello.result != ncclSuccess) give_up(hello.result, "rank 0's id for NCCL's start");

  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  started_ = false;
  finish(ncclCommInitRankConfig(&comm_, host_.ranks(), hello.id, host_.rank(), &config), "NCCL's start");
  started_ = true;
}

void* NcclCommunicator::allocate(size_t bytes) {
  void* memory = nullptr;
  const bool has_room = ncclMemAlloc(&memory, bytes) == ncclSuccess;
  const int64_t first = host_.agree_min("NCCL's memory", has_room ? host_.ranks() : host_.rank());
  if (first == host_.ranks()) return memory;
  if (has_room) ncclMemFree(memory);
  throw Error(ErrorKind::failed,
              concat(who_, ": no room for ", bytes, " bytes of NCCL's on the device of rank ", first));
}

void NcclCommunicator::open_window(void* memory, size_t bytes, ncclWindow_vidmem*& window) {
  if (!can_have_windows_) return;
  const int result = settled(ncclCommWindowRegister(comm_, memory, bytes, &window, NCCL_WIN_COLL_SYMMETRIC));
  const bool spoilt = state() != ncclSuccess;
  if (spoilt && windows_ > 0) finish(result, "the registration of NCCL's memory");  // those would go too
  // Where a rank's driver cannot map the others' memory (in containers that share no files, say), the others wait for
  // it, inside of NCCL and with beats, to the deadline.
  host_.barrier_after("NCCL's windows", host_.timeout());
  enum { no_nccl, no_window, a_window };
  const int64_t all_have = host_.agree_min("NCCL's windows", spoilt              ? no_nccl
                                                             : window != nullptr ? a_window
                                                                                 : no_window);
  if (all_have == a_window) {
    ++windows_;
    return;
  }
  if (all_have == no_window) finish(close_window(window), "the end of NCCL's window");
  window = nullptr;
  if (all_have == no_window) return;
  can_have_windows_ = false;
  abort();
  stopped();
  start();
}

int NcclCommunicator::close_window(ncclWindow_vidmem* window) {
  if (window != nullptr) return settled(ncclCommWindowDeregister(comm_, window));
  return ncclSuccess;
}

// A device that cannot be stopped may still write there.
void NcclCommunicator::give_back(void* memory, ncclWindow_vidmem* window) {
  if (comm_ != nullptr && (std::uncaught_exceptions() > 0 || close_window(window) != ncclSuccess)) abort();
  if (stopped()) ncclMemFree(memory);
}

// What a window is made of is NCCL's own, and may be another in another version than the kernel was compiled with.
// Where devices do not reach each other's memory it is none: NCCL 2.28.9 gives a handle of the host's then.
std::vector<void*> NcclCommunicator::addresses(ncclWindow_vidmem* window) {
  const bool reaches_all = window != nullptr && version() / 100 == NCCL_VERSION_CODE / 100 &&
                           ncclTeamLsa(comm_).nRanks == host_.ranks() && cuda::is_on_device(window);
  if (host_.agree_min("NCCL's windows", reaches_all) == 1) {
    const cuda::Stream stream;
    const cuda::DeviceArray<void*> there{size_t(host_.ranks())};
    cuda::window_addresses(stream.get(), window, host_.ranks(), there.data());
    return there.to_host(stream);
  }
  return {};
}

void NcclCommunicator::all_gather(cuda::StreamHandle stream, float* all, size_t count) {
  if (comm_ == nullptr) throw Error(ErrorKind::peer_lost, "");  // it has been said why
  finish(ncclAllGather(all + size_t(host_.rank()) * count, all, count, ncclFloat32, comm_, stream), "an all-gather");
}

void NcclCommunicator::all_reduce(cuda::StreamHandle stream, float* values, size_t count) {
  if (comm_ == nullptr) throw Error(ErrorKind::peer_lost, "");
  finish(ncclAllReduce(values, values, count, ncclFloat32, ncclSum, comm_, stream), "an all-reduce");
}

void NcclCommunicator::wait(const cuda::Stream& stream) {
  if (comm_ == nullptr) throw Error(ErrorKind::peer_lost, "");
  int result = ncclSuccess;
  const bool ended = with_context(who_, [&] {
    step_end_.record(stream);
    return in_time([&] { return step_end_.passed() || (result = state()) != ncclSuccess; });
  });
  if (!ended || result != ncclSuccess) give_up(ended ? result : ncclInProgress, "the device's work");
}

// Whether it is done before the deadline.
template <class Done>
bool NcclCommunicator::in_time(Done done) const {
  const int64_t end = steady_ns() + host_.timeout().count();
  while (!done()) {
    if (steady_ns() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

// What NCCL knows of the communicator: an ncclResult_t.
int NcclCommunicator::state() const {
  ncclResult_t of_the_communicator = ncclSuccess;
  const ncclResult_t of_the_call = ncclCommGetAsyncError(comm_, &of_the_communicator);
  return of_the_call != ncclSuccess ? of_the_call : of_the_communicator;
}

// What a call that returned `result` ends with; ncclInProgress: it does not, before the deadline. Success is not taken
// at its word: NCCL 2.28 gives it for a window's registration that has only begun, and refuses the next call.
int NcclCommunicator::settled(int result) const {
  if (result == ncclInProgress || result == ncclSuccess)
    in_time([&] {
      host_.ledger().beat();
      return (result = state()) != ncclInProgress;
    });
  return result;
}

void NcclCommunicator::finish(int result, const char* what) {
  result = settled(result);
  if (result != ncclSuccess) give_up(result, what);
}

// Aborts, and throws what is to be said.
void NcclCommunicator::give_up(int result, const char* what) {
  const std::string where = describe(host_.ledger()), said = last_error(comm_);
  abort();
  std::string first, trouble;
  if (result == ncclInProgress) {
    first = host_.speak();
    trouble = concat("did not end within ", seconds(host_.timeout()), first.empty() ? " though no rank is late" : "");
  } else {
    trouble = concat("failed: ", ncclGetErrorString(ncclResult_t(result)));
  }
  const bool lost = result == ncclInProgress || (started_ && of_a_peer(ncclResult_t(result)));
  throw Error(lost ? ErrorKind::peer_lost : ErrorKind::failed,
              concat(first, first.empty() ? "" : "; ", who_, " ", where, ": ", what, " ", trouble,
                     "; the last error of ", named(version()), ": ", said));
}

// Tells NCCL's kernels and threads to end, and does not wait for it: NCCL waits in turn for graphs that captured its
// calls, which may end after this.
void NcclCommunicator::abort() {
  if (comm_ == nullptr) return;
  std::packaged_task<int()> task([comm = comm_] { return int(ncclCommAbort(comm)); });
  aborted_ = task.get_future();
  std::thread(std::move(task)).detach();
  comm_ = nullptr;
}

// Whether an abort has ended, if there is one.
bool NcclCommunicator::stopped() const {
  return !aborted_.valid() || aborted_.wait_for(kAbortTakes) == std::future_status::ready;
}

// The end in order: NCCL has sent all that other ranks wait for. False: it does not come to that.
bool NcclCommunicator::close() {
  if (settled(ncclCommFinalize(comm_)) != ncclSuccess || ncclCommDestroy(comm_) != ncclSuccess) return false;
  comm_ = nullptr;
  return true;
}

}  // namespace pleat
