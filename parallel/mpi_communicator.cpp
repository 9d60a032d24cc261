#include "parallel/mpi_communicator.h"

#include <unistd.h>

#include <condition_variable>
#include <cstring>
#include <mutex>
#include <optional>
#include <thread>

#include "kernels/check.h"
#include "parallel/cores.h"
#include "parallel/mpi_messages.h"
#include "parallel/one_decimal.h"
#include "parallel/shared_exchange.h"
#include "parallel/shared_memory.h"

namespace pleat {
namespace {

using namespace std::chrono_literals;

constexpr auto kStart = 10s;    // programs and MPI on many hosts
constexpr auto kTurn = 1500ms;  // mpirun takes a second from the end of one rank to the end of the others

// What every rank tells every other at the start; plain bytes.
struct Card {
  char host[64] = {};
  char ledger[64] = {};
  int pid = 0;
  int host_leader = 0;  // lowest rank of its host
  int threads = 0;
  CoreSet cores;
};

// Ends the process when the others do not come: MPI_Init itself has no deadline.
class StartDeadline {
 public:
  StartDeadline(const MpiJoin& join, int exit_code)
      : thread_([this, timeout = join.timeout + kStart, rank = join.expected_rank, exit_code] {
          std::unique_lock lock(mutex_);
          // Rank 0 speaks first, and its end ends the others.
          if (done_.wait_for(lock, timeout + (rank > 0 ? kTurn : 0ms), [this] { return over_; })) return;
          const std::string line =
              concat("pleat: rank ", rank, " (pid ", getpid(), ") waited ", one_decimal(double(timeout.count()) / 1000),
                     " s for the other ranks to start\n");
          [[maybe_unused]] const auto written = write(STDERR_FILENO, line.data(), line.size());
          _exit(exit_code);
        }) {}
  ~StartDeadline() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    done_.notify_one();
    thread_.join();
  }

 private:
  std::mutex mutex_;
  std::condition_variable done_;
  bool over_ = false;
  std::thread thread_;
};

class MpiCommunicator final : public Communicator {
 public:
  // `region`: of this host's ranks. Shared memory carries everything if `one_host`.
  MpiCommunicator(std::vector<SharedMemory> ledgers, SharedMemory region, std::vector<Peer> peers, int rank,
                  HostPlace on_host, bool oversubscribed, bool one_host)
      : Communicator(rank, int(peers.size()), on_host, const_cast<Ledger*>(peers[rank].ledger)),
        ledgers_(std::move(ledgers)),
        region_(std::move(region)) {
    Watch watch(rank, std::move(peers), deadline(), waited_ns(), SharedExchange::blamed(region_.data()),
                oversubscribed);
    if (one_host) {
      shared_.emplace(region_.data(), rank, ranks(), std::move(watch));
    } else {
      messages_.emplace(MPI_COMM_WORLD, rank, ranks(), std::move(watch));
    }
  }
  std::string speak() const override { return (shared_ ? shared_->watch() : messages_->watch()).speak(); }

 private:
  template <class Call>
  void on_either(Call&& call) {
    if (shared_) {
      call(*shared_);
    } else {
      call(*messages_);
    }
  }

  void do_tree_all_reduce(const TreeExchange& exchange, const float* mine, int64_t n, float* out) override {
    on_either([&](auto& path) { path.tree_all_reduce(exchange, mine, n, out); });
  }
  void do_all_gather(std::span<const std::byte> mine, std::span<const int64_t> counts, std::byte* all) override {
    on_either([&](auto& path) { path.all_gather(mine, counts, all); });
  }
  void do_gather(std::span<const std::byte> mine, std::span<const int64_t> counts, std::byte* all) override {
    if (shared_) {
      shared_->all_gather(mine, counts, rank() == 0 ? all : nullptr);
    } else {
      messages_->gather(mine, counts, all);
    }
  }
  void do_broadcast(std::span<std::byte> bytes) override {
    on_either([&](auto& path) { path.broadcast(bytes); });
  }
  void do_barrier() override {
    on_either([&](auto& path) { path.barrier(); });
  }

  std::vector<SharedMemory> ledgers_;  // of this host's ranks
  SharedMemory region_;
  std::optional<SharedExchange> shared_;
  std::optional<MessageExchange> messages_;
};

// The region of this host's ranks: its first rank makes it, the others open it by name.
SharedMemory share_region(MPI_Comm host, size_t bytes) {
  int rank = 0;
  check_mpi(MPI_Comm_rank(host, &rank), "MPI_Comm_rank");
  SharedMemory region;
  char name[64] = {};
  if (rank == 0) {
    region = SharedMemory::create(bytes);
    region.name().copy(name, sizeof name - 1);
  }
  check_mpi(MPI_Bcast(name, sizeof name, MPI_CHAR, 0, host), "MPI_Bcast");
  if (rank != 0) region = SharedMemory::open(name, bytes);
  check_mpi(MPI_Barrier(host), "MPI_Barrier");
  region.unlink();
  return region;
}

std::vector<Card> exchange_cards(const MpiJoin& join, int ranks, int host_leader) {
  Card mine;
  gethostname(mine.host, sizeof mine.host - 1);
  join.ledger_name.copy(mine.ledger, sizeof mine.ledger - 1);
  mine.pid = getpid();
  mine.host_leader = host_leader;
  mine.threads = join.threads;
  mine.cores = cores_of_process(0);
  std::vector<Card> cards(ranks);
  check_mpi(MPI_Allgather(&mine, sizeof mine, MPI_BYTE, cards.data(), sizeof mine, MPI_BYTE, MPI_COMM_WORLD),
            "MPI_Allgather");
  return cards;
}

// Ranks may be bound to the same or to different cores, so their cores are united before they are counted.
bool more_threads_than_cores(const std::vector<Card>& cards, const Card& mine) {
  CoreSet cores;
  size_t threads = 0;
  for (const Card& card : cards) {
    if (card.host_leader != mine.host_leader) continue;
    cores |= card.cores;
    threads += size_t(card.threads);
  }
  return threads > cores.count() || size_t(mine.threads) > mine.cores.count();
}

}  // namespace

MpiJob join_mpi(const MpiJoin& join, int exit_code_lost) {
  const StartDeadline deadline(join, exit_code_lost);
  int provided = 0;
  check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  int rank = 0, ranks = 0, host_leader = 0;
  HostPlace on_host{};
  check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &ranks), "MPI_Comm_size");
  PLEAT_REQUIRE(ranks == join.expected_ranks, "the launcher started ", join.expected_ranks, " ranks but MPI sees ",
                ranks, ": use the mpirun of the MPI that pleat was built with, or srun --mpi=pmix");

  MPI_Comm host;
  check_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &host),
            "MPI_Comm_split_type");
  check_mpi(MPI_Comm_rank(host, &on_host.rank), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(host, &on_host.ranks), "MPI_Comm_size");
  host_leader = rank;
  check_mpi(MPI_Bcast(&host_leader, 1, MPI_INT, 0, host), "MPI_Bcast");
  const bool one_host = on_host.ranks == ranks && join.path == MpiPath::automatic;
  SharedMemory region = share_region(host, SharedExchange::region_bytes(one_host ? ranks : 0));
  const std::vector<Card> cards = exchange_cards(join, ranks, host_leader);

  std::vector<SharedMemory> ledgers;
  std::vector<Peer> peers;
  for (const Card& card : cards) {
    Peer peer{card.host, card.pid, nullptr};
    if (card.host_leader == host_leader) {
      ledgers.push_back(SharedMemory::open(card.ledger, sizeof(Ledger)));
      peer.ledger = reinterpret_cast<const Ledger*>(ledgers.back().data());
    }
    peers.push_back(std::move(peer));
  }
  check_mpi(MPI_Barrier(host), "MPI_Barrier");
  for (SharedMemory& ledger : ledgers) ledger.unlink();
  MPI_Comm_free(&host);

  MpiJob job;
  job.oversubscribed = more_threads_than_cores(cards, cards[rank]);
  job.communicator = std::make_unique<MpiCommunicator>(std::move(ledgers), std::move(region), std::move(peers), rank,
                                                       on_host, job.oversubscribed, one_host);
  job.communicator->set_timeout(join.timeout);
  return job;
}

void leave_mpi() { MPI_Finalize(); }

}  // namespace pleat
