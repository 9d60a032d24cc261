#pragma once
// Ranks as processes of this host without MPI.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <functional>
#include <new>
#include <string>
#include <vector>

#include "parallel/shared_exchange.h"

namespace pleat {

class ProcessCommunicator final : public Communicator {
 public:
  // memory: zeroed, of all ranks, [ranks] Ledgers and a SharedExchange's region.
  ProcessCommunicator(std::byte* memory, int rank, int ranks)
      : Communicator(rank, ranks, {rank, ranks}, reinterpret_cast<Ledger*>(memory) + rank),
        region_(memory + size_t(ranks) * sizeof(Ledger)),
        exchange_(region_, rank, ranks,
                  Watch(rank, peers(memory, ranks), deadline(), waited_ns(), SharedExchange::blamed(region_), true)) {}
  static size_t bytes(int ranks) { return size_t(ranks) * sizeof(Ledger) + SharedExchange::region_bytes(ranks); }
  std::string speak() const override { return exchange_.watch().speak(); }

 private:
  static std::vector<Peer> peers(std::byte* memory, int ranks) {
    std::vector<Peer> peers;
    for (int rank = 0; rank < ranks; ++rank)
      peers.push_back({"this host", getpid(), reinterpret_cast<Ledger*>(memory) + rank});
    return peers;
  }
  void do_tree_all_reduce(const TreeExchange& exchange, const float* mine, int64_t n, float* out) override {
    exchange_.tree_all_reduce(exchange, mine, n, out);
  }
  void do_all_gather(std::span<const std::byte> mine, std::span<const int64_t> counts, std::byte* all) override {
    exchange_.all_gather(mine, counts, all);
  }
  void do_gather(std::span<const std::byte> mine, std::span<const int64_t> counts, std::byte* all) override {
    exchange_.all_gather(mine, counts, rank() == 0 ? all : nullptr);
  }
  void do_broadcast(std::span<std::byte> bytes) override { exchange_.broadcast(bytes); }
  void do_barrier() override { exchange_.barrier(); }

  std::byte* region_;
  SharedExchange exchange_;
};

// What a process says that then ends: so that this one may ask CUDA something and fork afterwards.
inline std::string said_by_a_process(const std::function<std::string()>& say) {
  int ends[2];
  if (pipe(ends) != 0) return "there is no pipe";
  const pid_t process = fork();
  if (process == 0) {
    const std::string text = say();
    _exit(write(ends[1], text.data(), text.size()) != ssize_t(text.size()));
  }
  close(ends[1]);
  std::string said;
  char piece[256];
  for (ssize_t n = 0; (n = read(ends[0], piece, sizeof piece)) > 0;) said.append(piece, size_t(n));
  close(ends[0]);
  waitpid(process, nullptr, 0);
  return said;
}

// Runs `body` in `ranks` processes; what one of them expects in vain, or throws, fails the test.
inline void run_processes(int ranks, const std::function<void(Communicator&)>& body) {
  const size_t bytes = ProcessCommunicator::bytes(ranks);
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  auto* const shared = static_cast<std::byte*>(memory);
  for (int rank = 0; rank < ranks; ++rank) new (shared + size_t(rank) * sizeof(Ledger)) Ledger;
  std::vector<pid_t> processes;
  std::fflush(nullptr);
  for (int rank = 0; rank < ranks; ++rank) {
    processes.push_back(fork());
    if (processes.back() != 0) continue;
    try {
      ProcessCommunicator communicator(shared, rank, ranks);
      body(communicator);
      communicator.barrier("end");  // the others may still read this one's memory
    } catch (const std::exception& error) {
      ADD_FAILURE() << "rank " << rank << ": " << error.what();
    }
    std::fflush(nullptr);
    _exit(testing::Test::HasFailure());
  }
  for (const pid_t process : processes) {
    int status = 0;
    waitpid(process, &status, 0);
    EXPECT_EQ(status, 0);
  }
  munmap(memory, bytes);
}

}  // namespace pleat
