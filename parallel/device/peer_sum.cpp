#include "parallel/device/peer_sum.h"

#include <algorithm>
#include <random>

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
  const std::vector<int64_t> counts(all.size(), int64_t(sizeof(T)));
  communicator.all_gather(name, std::as_bytes(std::span(&mine, 1)), counts, reinterpret_cast<std::byte*>(all.data()));
  return all;
}

template <class T>
cuda::DeviceArray<T> zeros(size_t count, const cuda::Stream& stream) {
  cuda::DeviceArray<T> array(count);
  cuda::clear(array.data(), count * sizeof(T), stream.get());
  return array;
}

}  // namespace

struct PeerSum::Memory {
  Memory(int64_t capacity, const cuda::Stream& stream)
      : exchange(size_t(2 * capacity)), flags(zeros<unsigned>(cuda::kAllReduceFlags, stream)) {}
  cuda::DeviceArray<float> exchange;
  cuda::DeviceArray<unsigned> flags;
};

bool PeerSum::possible(Communicator& communicator) {
  const std::vector<uint64_t> tokens = gathered(communicator, "processes", process_token());
  return tokens.size() <= cuda::kMaxRanks && std::ranges::count(tokens, tokens[0]) == std::ssize(tokens);
}

PeerSum::PeerSum(Communicator& communicator, int64_t capacity) : communicator_(communicator) {
  const cuda::Stream stream;
  side_.rank = communicator.rank();
  side_.ranks = communicator.ranks();
  side_.capacity = (capacity + 3) / 4 * 4;
  side_.two_shot_bytes = kTwoShotBytes;
  // A look takes some 0.1 us at least: not before the deadline, whatever the host does.
  side_.spins = unsigned(std::min<int64_t>(communicator.timeout().count() / 100, ~0u));
  side_.abort = abort_.on_device();
  side_.status = status_.on_device();
  counters_ = zeros<unsigned>(cuda::kAllReduceCounters, stream);
  side_.counters = counters_.data();

  const auto mine = std::make_shared<Memory>(side_.capacity, stream);
  stream.wait();
  for (const std::shared_ptr<Memory>* theirs : gathered(communicator, "peers", &mine)) peers_.push_back(*theirs);
  communicator.barrier("peers");  // `mine` has been copied
  for (size_t peer = 0; peer < peers_.size(); ++peer) {
    side_.peers.exchange[peer] = peers_[peer]->exchange.data();
    side_.peers.flags[peer] = peers_[peer]->flags.data();
  }
}

const cuda::SumOrder& PeerSum::order_of(const TreeExchange& exchange) {
  const auto known = orders_.find(&exchange);
  if (known != orders_.end()) return known->second;
  return orders_[&exchange] = cuda::SumOrder::by_trees(exchange.nodes, exchange.finish, exchange.place);
}

void PeerSum::all_reduce(cuda::StreamHandle stream, const char*, const TreeExchange& exchange, int rows, int d,
                         const float* mine, float* out) {
  cuda::all_reduce(stream, side_, order_of(exchange), rows, d, mine, out);
}

void PeerSum::all_reduce_add_norm(cuda::StreamHandle stream, const char*, const TreeExchange& exchange, int rows, int d,
                                  const float* mine, const float* bias, const cuda::Norm& norm, float* residual,
                                  float* y) {
  cuda::all_reduce_add_norm(stream, side_, order_of(exchange), rows, d, mine, bias, norm, residual, y);
}

void PeerSum::wait(const cuda::Stream& stream) {
  stream.wait();
  const cuda::AllReduceStatus status(status_.load());
  if (!status.failed) return;
  throw Error(ErrorKind::peer_lost,
              concat("rank ", status.rank, " is late: rank ", communicator_.rank(), " waited for it on its device for ",
                     std::chrono::duration<double>(communicator_.timeout()).count(), " s and more, ",
                     describe(communicator_.ledger())));
}

}  // namespace pleat
