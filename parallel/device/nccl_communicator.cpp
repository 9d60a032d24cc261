#include "parallel/device/nccl_communicator.h"

#include <nccl.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <iomanip>
#include <span>
#include <thread>

#include "kernels/check.h"
#include "parallel/device/device_inventory.h"

namespace pleat {
namespace {

constexpr std::chrono::seconds kAbortTakes{5};  // at most, else it is left alone

std::string version() {
  int code = 0;
  ncclGetVersion(&code);
  return concat("NCCL ", code / 10000, ".", code / 100 % 100, ".", code % 100);
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

std::string seconds(std::chrono::nanoseconds time) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(1) << double(time.count()) * 1e-9 << " s";
  return text.str();
}

}  // namespace

NcclCommunicator::NcclCommunicator(Communicator& host) : host_(host), who_(name_me(host.rank())) {}

// Delegates, so that a start that fails halfway is taken down by the destructor.
NcclCommunicator::NcclCommunicator(Communicator& host, size_t exchange_floats) : NcclCommunicator(host) {
  start();
  share_memory(exchange_floats * sizeof(float));
}

NcclCommunicator::~NcclCommunicator() {
  if (comm_ != nullptr && (std::uncaught_exceptions() > 0 || !close())) abort();
  // A device that cannot be stopped may still write there.
  const bool stopped = !aborted_.valid() || aborted_.wait_for(kAbortTakes) == std::future_status::ready;
  if (stopped && exchange_ != nullptr) ncclMemFree(exchange_);
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
  finish(ncclCommInitRankConfig(&comm_, host_.ranks(), hello.id, host_.rank(), &config), "NCCL's start");
  started_ = true;
}

// A window is used by all ranks or by none.
void NcclCommunicator::share_memory(size_t bytes) {
  void* memory = nullptr;
  if (ncclMemAlloc(&memory, bytes) != ncclSuccess)
    throw Error(ErrorKind::failed, concat(who_, ": no room for ", bytes, " bytes of NCCL's on the device"));
  exchange_ = static_cast<float*>(memory);
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 0)
  const int result = settled(ncclCommWindowRegister(comm_, memory, bytes, &window_, NCCL_WIN_COLL_SYMMETRIC));
  const bool refused = result == ncclInvalidUsage || result == ncclInvalidArgument;
  if (!refused || state() != ncclSuccess) finish(result, "the registration of NCCL's memory");
  const bool all = host_.agree_min("NCCL's windows", window_ != nullptr) == 1;
  if (!all && window_ != nullptr) finish(ncclCommWindowDeregister(comm_, window_), "the end of NCCL's window");
  if (!all) window_ = nullptr;
#endif
}

void NcclCommunicator::all_gather(cuda::StreamHandle stream, size_t count) {
  if (comm_ == nullptr) throw Error(ErrorKind::peer_lost, "");  // it has been said why
  finish(ncclAllGather(exchange_ + size_t(host_.rank()) * count, exchange_, count, ncclFloat32, comm_, stream),
         "an all-gather");
}

void NcclCommunicator::all_reduce(cuda::StreamHandle stream, size_t count) {
  if (comm_ == nullptr) throw Error(ErrorKind::peer_lost, "");
  finish(ncclAllReduce(exchange_, exchange_, count, ncclFloat32, ncclSum, comm_, stream), "an all-reduce");
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
  if (result == ncclInProgress || result == ncclSuccess) in_time([&] { return (result = state()) != ncclInProgress; });
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
                     "; the last error of ", version(), ": ", said));
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

// The end in order: NCCL has sent all that other ranks wait for. False: it does not come to that.
bool NcclCommunicator::close() {
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 0)
  if (window_ != nullptr && settled(ncclCommWindowDeregister(comm_, window_)) != ncclSuccess) return false;
#endif
  if (settled(ncclCommFinalize(comm_)) != ncclSuccess || ncclCommDestroy(comm_) != ncclSuccess) return false;
  comm_ = nullptr;
  return true;
}

}  // namespace pleat
