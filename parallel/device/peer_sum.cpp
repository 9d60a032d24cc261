#include "parallel/device/peer_sum.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <random>
#include <thread>

namespace pleat {
namespace {

// So many bytes to read and more: two-shot. Not measured yet.
constexpr int64_t kTwoShotBytes = 512 << 10;

// Tells this process from any other, on this host or another one.
uint64_t process_token() {
  static const uint64_t token = std::random_device()() | uint64_t(std::random_device()()) << 32;
  return token;
}

template <class T>
std::vector<T> gathered(Communicator& communicator, const char* name, const T& mine) {
  std::vector<T> all(size_t(communicator.ranks()));
  const auto bytes = std::as_bytes(std::span(&mine, 1));
  const std::vector<int64_t> counts(all.size(), int64_t(bytes.size()));
  communicator.all_gather(name, bytes, counts, reinterpret_cast<std::byte*>(all.data()));
  return all;
}

template <class T>
cuda::DeviceArray<T> zeros(size_t count, const cuda::Stream& stream) {
  cuda::DeviceArray<T> array(count);
  cuda::zero(array.data(), count * sizeof(T), stream.get());
  return array;
}

}  // namespace

struct PeerSum::Memory {
  Memory(int64_t capacity, const cuda::Stream& stream)
      : exchange(size_t(2 * capacity)), flags(zeros<unsigned>(cuda::kAllReduceFlags, stream)) {}
  cuda::DeviceArray<float> exchange;
  cuda::DeviceArray<unsigned> flags;
  cuda::HostWord abort;
};

bool PeerSum::possible(Communicator& communicator) {
  const std::pair mine(process_token(), int64_t(cuda::device_info().ordinal));
  const auto all = gathered(communicator, "processes", mine);
  return all.size() <= cuda::kMaxRanks && std::ranges::count(all, mine) == std::ssize(all);
}

PeerSum::PeerSum(Communicator& communicator, int64_t capacity) : communicator_(communicator) {
  const cuda::Stream stream;
  side_.rank = communicator.rank();
  side_.ranks = communicator.ranks();
  side_.capacity = (capacity + 3) / 4 * 4;
  side_.two_shot_bytes = kTwoShotBytes;
  side_.status = status_.on_device();
  counters_ = zeros<unsigned>(cuda::kAllReduceCounters, stream);
  side_.counters = counters_.data();

  const auto mine = std::make_shared<Memory>(side_.capacity, stream);
  stream.wait();
  side_.abort = mine->abort.on_device();
  for (const std::shared_ptr<Memory>* theirs : gathered(communicator, "peers", &mine)) peers_.push_back(*theirs);
  communicator.barrier("peers");  // `mine` has been copied
  for (size_t peer = 0; peer < peers_.size(); ++peer) {
    side_.peers.exchange[peer] = peers_[peer]->exchange.data();
    side_.peers.flags[peer] = peers_[peer]->flags.data();
  }
}

PeerSum::~PeerSum() {
  if (std::uncaught_exceptions() == 0) return;
  for (const std::shared_ptr<Memory>& peer : peers_) peer->abort.store(1);
}

// A look takes some 0.1 us at least: a wait does not end before the deadline, and if looks take longer, wait() ends it.
const cuda::AllReduce& PeerSum::side() {
  side_.spins = unsigned(std::min<int64_t>(communicator_.timeout().count() / 100, ~0u));
  return side_;
}

void PeerSum::all_reduce(cuda::StreamHandle stream, const char*, const TreeExchange& exchange, int rows, int d,
                         const float* mine, float* out) {
  cuda::all_reduce(stream, side(), orders_.of(exchange), rows, d, mine, out);
}

void PeerSum::all_reduce_add_norm(cuda::StreamHandle stream, const char*, const TreeExchange& exchange, int rows, int d,
                                  const float* mine, const float* bias, const cuda::Norm& norm, float* residual,
                                  float* y) {
  cuda::all_reduce_add_norm(stream, side(), orders_.of(exchange), rows, d, mine, bias, norm, residual, y);
}

// By the host's clock: past the deadline this rank's kernels are told to wait no longer.
void PeerSum::wait(const cuda::Stream& stream) {
  using Clock = std::chrono::steady_clock;
  end_.record(stream);
  const Clock::time_point deadline = Clock::now() + communicator_.timeout();
  cuda::HostWord& abort = peers_[size_t(communicator_.rank())]->abort;
  bool late = false;
  for (; !end_.passed(); std::this_thread::yield())
    if (!late && Clock::now() > deadline) {
      late = true;
      abort.store(1);
    }
  const cuda::AllReduceStatus status(status_.load());
  if (!status.failed) {
    if (late) abort.store(0);  // it was the work that took long, no wait
    return;
  }
  if (status.aborted && !late) throw Error(ErrorKind::peer_lost, "");  // who left says why
  const std::string said = communicator_.speak();
  throw Error(ErrorKind::peer_lost,
              said + concat(said.empty() ? "" : "; ", "rank ", communicator_.rank(), " waited for rank ", status.rank,
                            " in a sum on its device, ", describe(communicator_.ledger())));
}

}  // namespace pleat
