#include "parallel/device/peer_memory.h"

#include <unistd.h>

#include <algorithm>
#include <random>
#include <set>

namespace pleat {
namespace {

constexpr size_t kFlagBytes = cuda::kAllReduceFlags * sizeof(unsigned);  // a multiple of 16

int64_t rounded(int64_t capacity) { return (capacity + 3) / 4 * 4; }

// Where a rank runs: a process, told from any other on this host or another one, and its device.
struct Home {
  uint64_t token = 0;
  int64_t process = 0, device = 0;
  auto operator<=>(const Home&) const = default;
};

Home this_home() {
  static const uint64_t token = std::random_device()() | uint64_t(std::random_device()()) << 32;
  return {.token = token, .process = getpid(), .device = cuda::device_info().ordinal};
}

template <class T>
std::vector<T> gathered(Communicator& communicator, const char* name, const T& mine) {
  std::vector<T> all(size_t(communicator.ranks()));
  const auto bytes = std::as_bytes(std::span(&mine, 1));
  const std::vector<int64_t> counts(all.size(), int64_t(bytes.size()));
  communicator.all_gather(name, bytes, counts, reinterpret_cast<std::byte*>(all.data()));
  return all;
}

// Other processes' kernels may still read what this one has no more use for: until it ends.
void keep_until_the_end(std::shared_ptr<void> memory) {
  static auto* const kept = new std::vector<std::shared_ptr<void>>;
  kept->push_back(std::move(memory));
}

}  // namespace

size_t PeerMemory::bytes(int64_t capacity) { return kFlagBytes + 2 * size_t(rounded(capacity)) * sizeof(float); }

void PeerMemory::zero_flags(void* memory) {
  const cuda::Stream stream;
  cuda::zero(memory, kFlagBytes, stream.get());
  stream.wait();
}

PeerMemory::PeerMemory(int64_t capacity) : capacity_(rounded(capacity)), mine_(std::make_shared<Memory>()) {
  mine_->bytes = cuda::DeviceArray<unsigned char>(bytes(capacity));
  zero_flags(mine_->bytes.data());
}

PeerMemory::PeerMemory(int64_t capacity, std::span<void* const> ranks, std::shared_ptr<const void> owner)
    : capacity_(rounded(capacity)), mine_(std::make_shared<Memory>()), owner_(std::move(owner)) {
  for (size_t rank = 0; rank < ranks.size(); ++rank) set(int(rank), ranks[rank]);
}

bool PeerMemory::of_threads(Communicator& communicator) {
  const auto homes = gathered(communicator, "processes", this_home());
  return std::ranges::count(homes, homes[0]) == std::ssize(homes);
}

std::unique_ptr<PeerMemory> PeerMemory::make(Communicator& communicator, int64_t capacity) {
  const auto homes = gathered(communicator, "processes", this_home());
  if (homes.size() > cuda::kMaxRanks) return nullptr;
  std::set<std::pair<uint64_t, int64_t>> processes;
  for (const Home& home : homes) processes.emplace(home.token, home.process);
  std::unique_ptr<PeerMemory> out;
  if (std::ranges::count(homes, homes[0]) == std::ssize(homes)) {
    out.reset(new PeerMemory(capacity));
    out->share_between_threads(communicator);
  } else if (communicator.on_host().ranks == communicator.ranks() && processes.size() == homes.size()) {
    out.reset(new PeerMemory(capacity));
    if (!out->share_between_processes(communicator)) out.reset();
  }
  return out;
}

void PeerMemory::set(int rank, void* memory) {
  buffers_.flags[rank] = static_cast<unsigned*>(memory);
  buffers_.exchange[rank] = reinterpret_cast<float*>(static_cast<unsigned char*>(memory) + kFlagBytes);
}

void PeerMemory::share_between_threads(Communicator& communicator) {
  for (const std::shared_ptr<Memory>* theirs : gathered(communicator, "peers", &mine_)) threads_.push_back(*theirs);
  communicator.barrier("peers");  // `mine_` has been copied
  for (int rank = 0; rank < communicator.ranks(); ++rank) set(rank, threads_[size_t(rank)]->bytes.data());
}

// False, on every rank, where one could not: then nothing of it is left.
bool PeerMemory::share_between_processes(Communicator& communicator) {
  bool reaches_all = true;
  const auto attempt = [&](auto work) {
    try {
      work();
    } catch (const Error&) {
      reaches_all = false;
    }
  };
  cuda::MemoryHandle handle{};
  attempt([&] { handle = cuda::export_memory(mine_->bytes.data()); });
  const bool all_export = communicator.agree_min("peers", reaches_all) == 1;
  const auto handles = gathered(communicator, "peers", handle);
  for (int rank = 0; rank < communicator.ranks() && all_export; ++rank)
    attempt([&] {
      if (rank == communicator.rank()) return set(rank, mine_->bytes.data());
      const auto& memory = processes_.emplace_back(std::make_unique<cuda::ImportedMemory>(handles[size_t(rank)]));
      set(rank, memory->get());
    });
  if (communicator.agree_min("peers", reaches_all && all_export) == 1) return keep_until_the_end(mine_), true;
  processes_.clear();
  communicator.barrier("peers");  // nobody has this rank's memory open
  return false;
}

void PeerMemory::abort_waits() const {
  mine_->abort.store(1);
  for (const std::shared_ptr<Memory>& peer : threads_) peer->abort.store(1);
}

}  // namespace pleat
