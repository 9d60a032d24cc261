#include "parallel/device/peer_sum.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <thread>

#include "parallel/device/device_inventory.h"
#include "parallel/device/two_shot.h"

namespace pleat {
namespace {

// Messages of so many bytes to read are measured, each twice the last: below the first the second wait of two
// shots costs more than what they read less.
constexpr int64_t kFirstMeasured = 128 << 10, kLastMeasured = 8 << 20;
constexpr int kMeasuredWidth = 4096, kRounds = 2, kCalls = 2;

}  // namespace

std::unique_ptr<PeerSum> PeerSum::make(Communicator& communicator, int64_t capacity) {
  capacity = (capacity + 3) / 4 * 4;
  std::unique_ptr<PeerMemory> memory = PeerMemory::make(communicator, capacity);
  if (!memory) return nullptr;
  std::unique_ptr<PeerSum> out(new PeerSum(communicator, std::move(memory), capacity));
  out->measure();
  return out;
}

PeerSum::PeerSum(Communicator& communicator, std::unique_ptr<PeerMemory> memory, int64_t capacity)
    : communicator_(communicator),
      who_(name_of(communicator.rank(), this_device())),
      memory_(std::move(memory)),
      counters_(cuda::kAllReduceCounters) {
  const cuda::Stream stream;
  cuda::zero(counters_.data(), counters_.size() * sizeof(unsigned), stream.get());
  stream.wait();
  side_.rank = communicator.rank();
  side_.ranks = communicator.ranks();
  side_.peers = memory_->buffers();
  side_.capacity = capacity;
  side_.two_shot_bytes = kNeverTwoShot;
  side_.counters = counters_.data();
  side_.abort = memory_->abort().on_device();
  side_.status = status_.on_device();
}

PeerSum::~PeerSum() {
  if (std::uncaught_exceptions() > 0) memory_->abort_waits();
}

// Both ways of one node a rank, the best of a few rounds. Where ranks share a device, memory comes and goes while none
// of their kernels waits: either may wait for all of them.
void PeerSum::measure() {
  const int64_t row_bytes = side_.ranks * kMeasuredWidth * int64_t(sizeof(float));
  const cuda::SumOrder order = cuda::SumOrder::by_rank(side_.ranks);
  const int64_t most_rows =
      std::min({kLastMeasured / row_bytes, side_.capacity / kMeasuredWidth, int64_t(cuda::kAllReduceRows)});
  const int64_t first_rows = std::max<int64_t>(1, kFirstMeasured / row_bytes);
  if (first_rows > most_rows) return;
  const cuda::Stream stream;
  cuda::Event begin(cuda::Event::timed), end(cuda::Event::timed);
  const cuda::DeviceArray<float> values(size_t(most_rows * kMeasuredWidth));
  cuda::zero(values.data(), values.size() * sizeof(float), stream.get());
  std::vector<ShotTimes> times;
  communicator_.barrier("two shots");  // nobody allocates
  for (int64_t rows = first_rows; rows <= most_rows; rows *= 2) {
    const auto best = [&](int64_t two_shot_bytes) {
      side_.two_shot_bytes = two_shot_bytes;
      float least = 0;
      for (int round = 0; round < kRounds; ++round) {
        begin.record(stream);
        for (int call = 0; call < kCalls; ++call)
          cuda::all_reduce(stream.get(), side(), order, int(rows), kMeasuredWidth, values.data(), values.data());
        end.record(stream);
        wait(stream);
        const float milliseconds = end.milliseconds_since(begin);
        least = round == 0 ? milliseconds : std::min(least, milliseconds);
      }
      return least;
    };
    const float one_shot = best(kNeverTwoShot);
    times.push_back({rows * row_bytes, one_shot, best(0)});
  }
  communicator_.barrier("two shots");  // nobody waits in a kernel
  side_.two_shot_bytes = two_shots_from(times);
  communicator_.broadcast("two shots", std::as_writable_bytes(std::span(&side_.two_shot_bytes, 1)));
}

// A look takes some 0.1 us at least: a wait does not end before the deadline, and if looks take longer, wait() ends it.
const cuda::AllReduce& PeerSum::side() {
  side_.spins = unsigned(std::min<int64_t>(communicator_.timeout().count() / 100, ~0u));
  return side_;
}

// A call under its name in the ledger.   n: floats of a node
template <class Enqueue>
void PeerSum::enter(const char* name, const TreeExchange& exchange, int64_t n, Enqueue enqueue) {
  const int64_t nodes = std::ssize(exchange.nodes[size_t(communicator_.rank())]);
  communicator_.ledger().enter(name, nodes * n * int64_t(sizeof(float)));
  with_context(who_, enqueue);
  communicator_.ledger().leave();
}

void PeerSum::all_reduce(cuda::StreamHandle stream, const char* name, const TreeExchange& exchange, int rows, int d,
                         const float* mine, float* out) {
  enter(name, exchange, int64_t(rows) * d,
        [&] { cuda::all_reduce(stream, side(), orders_.of(exchange), rows, d, mine, out); });
}

void PeerSum::all_reduce_add_norm(cuda::StreamHandle stream, const char* name, const TreeExchange& exchange, int rows,
                                  int d, const float* mine, const float* bias, const cuda::Norm& norm, float* residual,
                                  float* y) {
  enter(name, exchange, int64_t(rows) * d, [&] {
    cuda::all_reduce_add_norm(stream, side(), orders_.of(exchange), rows, d, mine, bias, norm, residual, y);
  });
}

// By the host's clock: past the deadline this rank's kernels are told to wait no longer.
void PeerSum::wait(const cuda::Stream& stream) {
  using Clock = std::chrono::steady_clock;
  communicator_.ledger().enter("device", 0);
  with_context(who_, [&] { end_.record(stream); });
  const Clock::time_point deadline = Clock::now() + communicator_.timeout();
  cuda::HostWord& abort = memory_->abort();
  bool late = false;
  const auto passed = [&] { return with_context(who_, [&] { return end_.passed(); }); };
  for (; !passed(); std::this_thread::yield())
    if (!late && Clock::now() > deadline) {
      late = true;
      abort.store(1);
    }
  const cuda::AllReduceStatus status(status_.load());
  if (!status.failed) {
    if (late) abort.store(0);  // it was the work that took long, no wait
    communicator_.ledger().leave();
    return;
  }
  if (status.aborted && !late) throw Error(ErrorKind::peer_lost, "");  // who left says why
  const std::string said = communicator_.speak();
  throw Error(ErrorKind::peer_lost, said + concat(said.empty() ? "" : "; ", who_, " waited for rank ", status.rank,
                                                  " in a sum on its device, ", describe(communicator_.ledger())));
}

}  // namespace pleat
