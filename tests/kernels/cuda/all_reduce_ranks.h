#pragma once
// Ranks of an all-reduce as threads of this process, each with its own stream on the one device.
#include <atomic>
#include <barrier>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "kernels/cuda/all_reduce.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/host_word.h"

namespace pleat::cuda {

template <class T>
DeviceArray<T> filled(size_t count, T value, const Stream& stream) {
  return DeviceArray<T>(std::vector<T>(count, value), stream);
}

class Ranks {
 public:
  // Long enough for a rank that is only slow.
  static constexpr unsigned kSpins = 1u << 24;

  Ranks(int ranks, int64_t capacity, unsigned spins = kSpins) : capacity_((capacity + 3) / 4 * 4), spins_(spins) {
    for (int rank = 0; rank < ranks; ++rank) {
      exchange_.emplace_back(size_t(2 * capacity_));
      flags_.push_back(filled(kAllReduceFlags, 0u, stream_));
      counters_.push_back(filled(kAllReduceCounters, 0u, stream_));
      status_.push_back(std::make_unique<HostWord>());
      warm_.push_back(filled(4, 0.0f, stream_));
    }
  }

  int count() const { return int(exchange_.size()); }
  HostWord& abort() { return abort_; }
  AllReduceStatus status(int rank) const { return AllReduceStatus(status_[size_t(rank)]->load()); }

  AllReduce side(int rank, bool two_shot) const {
    AllReduce all{.rank = rank,
                  .ranks = count(),
                  .capacity = capacity_,
                  .two_shot_bytes = two_shot ? 0 : int64_t(1) << 40,
                  .counters = counters_[size_t(rank)].data(),
                  .spins = spins_,
                  .abort = abort_.on_device(),
                  .status = status_[size_t(rank)]->on_device()};
    for (int peer = 0; peer < count(); ++peer) {
      all.peers.exchange[peer] = exchange_[size_t(peer)].data();
      all.peers.flags[peer] = flags_[size_t(peer)].data();
    }
    return all;
  }

  // work(rank, stream) of all ranks but `absent`, at the same time.
  void run(const std::function<void(int, const Stream&)>& work, int absent = -1) {
    all_.emplace(count() - (absent >= 0));
    warmed_ = 0;
    std::vector<std::thread> threads;
    for (int rank = 0; rank < count(); ++rank)
      if (rank != absent)
        threads.emplace_back([&work, rank] {
          const Stream stream;
          work(rank, stream);
          stream.wait();
        });
    for (std::thread& thread : threads) thread.join();
  }

  // Until all ranks that run have come here, between their allocations, which may wait for all of a device's kernels,
  // and their first kernel that waits for another rank's. Each stream has run a kernel since: what the device does
  // before a stream's first one may wait for all kernels, too.
  void meet(const Stream& stream) {
    all_->arrive_and_wait();
    float* const four = warm_[size_t(warmed_++)].data();
    add_norm(stream.get(), 1, 4, {}, {}, four, four);
    stream.wait();
    all_->arrive_and_wait();
  }

  // Until the stream has done all, as PeerSum waits: without a call that stays in the driver. The event was made before
  // a kernel waits.
  static void wait(const Stream& stream, Event& end) {
    end.record(stream);
    while (!end.passed()) std::this_thread::yield();
  }

 private:
  Stream stream_;
  int64_t capacity_;
  unsigned spins_;
  HostWord abort_;
  std::vector<DeviceArray<float>> exchange_;
  std::vector<DeviceArray<unsigned>> flags_, counters_;
  std::vector<std::unique_ptr<HostWord>> status_;
  std::vector<DeviceArray<float>> warm_;  // [ranks]
  std::atomic<int> warmed_ = 0;
  std::optional<std::barrier<>> all_;
};

}  // namespace pleat::cuda
