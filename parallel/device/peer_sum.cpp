#include "parallel/device/peer_sum.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <thread>

#include "parallel/device/device_inventory.h"
#include "parallel/device/measured_ways.h"

namespace pleat {
namespace {

// Messages of so many bytes to read are measured, each twice the last: below the first the second wait of two
// shots costs more than what they read less.
constexpr int64_t kFirstMeasuredRead = 128 << 10, kLastMeasuredRead = 8 << 20;

}  // namespace

std::unique_ptr<PeerSum> PeerSum::over(std::unique_ptr<PeerMemory> memory, Communicator& communicator) {
  if (!memory) return nullptr;
  std::unique_ptr<PeerSum> out(new PeerSum(std::move(memory), communicator));
  out->measure();
  return out;
}

PeerSum::PeerSum(std::unique_ptr<PeerMemory> memory, Communicator& communicator)
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
  side_.capacity = memory_->capacity();
  side_.counters = counters_.data();
  side_.abort = memory_->abort().on_device();
  side_.status = status_.on_device();
}

PeerSum::~PeerSum() {
  if (std::uncaught_exceptions() > 0) memory_->abort_waits();
}

void PeerSum::measure() {
  const cuda::SumOrder order = cuda::SumOrder::by_rank(side_.ranks);
  const MeasuredRows measured(side_.ranks * kMeasuredWidth * int64_t(sizeof(float)), kFirstMeasuredRead,
                              kLastMeasuredRead, side_.capacity);
  const auto enqueue = [&](bool two_shots, const cuda::Stream& stream, int rows, float* values) {
    side_.two_shot_bytes = two_shots ? 0 : kNever;
    cuda::all_reduce(stream.get(), side(), order, rows, kMeasuredWidth, values, values);
  };
  side_.two_shot_bytes = measure_second_way(communicator_, "two shots", measured, enqueue,
                                            [&](const cuda::Stream& stream) { wait(stream); });
}

// A look takes some 0.1 us at least: a wait does not end before the deadline, and if looks take longer, wait() ends it,
// as it does where their number has no room (429 s).
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
