#include "parallel/mpi_messages.h"

#include <algorithm>
#include <climits>
#include <cstring>

#include "kernels/check.h"

namespace pleat {
namespace {

constexpr int64_t kLargestMessage = 64 << 20;  // bytes; MPI counts them in an int

template <class Bytes>
Bytes piece(Bytes bytes, int64_t begin) {
  const size_t from = std::min(bytes.size(), size_t(begin));
  return bytes.subspan(from, std::min(bytes.size() - from, size_t(kLargestMessage)));
}

}  // namespace

void check_mpi(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw Error(ErrorKind::peer_lost, concat(call, ": ", text));
}

MessageExchange::MessageExchange(MPI_Comm ranks_comm, int rank, int ranks, Watch watch)
    : comm_(ranks_comm),
      rank_(rank),
      ranks_(ranks),
      watch_(std::move(watch)),
      sends_(ranks, MPI_REQUEST_NULL),
      receives_(ranks, MPI_REQUEST_NULL),
      counts_(ranks) {}

void MessageExchange::send(int peer, std::span<const std::byte> bytes) {
  PLEAT_ASSERT(bytes.size() <= INT_MAX);
  if (bytes.empty()) return;
  check_mpi(MPI_Isend(bytes.data(), int(bytes.size()), MPI_BYTE, peer, 0, comm_, &sends_[peer]), "MPI_Isend");
}

void MessageExchange::receive(int peer, std::span<std::byte> bytes) {
  PLEAT_ASSERT(bytes.size() <= INT_MAX);
  if (bytes.empty()) return;
  check_mpi(MPI_Irecv(bytes.data(), int(bytes.size()), MPI_BYTE, peer, 0, comm_, &receives_[peer]), "MPI_Irecv");
}

void MessageExchange::finish() {
  const auto open = [](MPI_Request& request) {
    if (request == MPI_REQUEST_NULL) return false;
    int done = 0;
    check_mpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test");
    return done == 0;
  };
  const auto all_done = [&] {
    bool done = true;
    for (int peer = 0; peer < ranks_; ++peer) done = !open(receives_[peer]) && !open(sends_[peer]) && done;
    return done;
  };
  const auto behind = [&](int peer) { return receives_[peer] != MPI_REQUEST_NULL || sends_[peer] != MPI_REQUEST_NULL; };
  watch_.wait(all_done, behind);
}

void MessageExchange::all_gather(std::span<const std::byte> mine, std::span<const int64_t> counts, std::byte* all) {
  const int64_t largest = *std::max_element(counts.begin(), counts.end());
  for (int64_t begin = 0; begin < largest; begin += kLargestMessage) {
    int64_t offset = 0;
    for (int peer = 0; peer < ranks_; offset += counts[peer++]) {
      if (peer == rank_) {
        if (begin == 0 && !mine.empty()) std::memcpy(all + offset, mine.data(), mine.size());
      } else {
        receive(peer, piece(std::span(all + offset, size_t(counts[peer])), begin));
        send(peer, piece(mine, begin));
      }
    }
    finish();
  }
}

void MessageExchange::gather(std::span<const std::byte> mine, std::span<const int64_t> counts, std::byte* all) {
  if (rank_ != 0) {
    send(0, mine);
  } else {
    if (!mine.empty()) std::memcpy(all, mine.data(), mine.size());
    int64_t offset = counts[0];
    for (int peer = 1; peer < ranks_; offset += counts[peer++]) receive(peer, {all + offset, size_t(counts[peer])});
  }
  finish();
}

void MessageExchange::broadcast(std::span<std::byte> bytes) {
  if (rank_ != 0) {
    receive(0, bytes);
  } else {
    for (int peer = 1; peer < ranks_; ++peer) send(peer, bytes);
  }
  finish();
}

void MessageExchange::barrier() {
  std::byte here{};
  std::vector<std::byte> all(ranks_);
  std::fill(counts_.begin(), counts_.end(), 1);
  all_gather({&here, 1}, counts_, all.data());
}

void MessageExchange::tree_all_reduce(const TreeExchange& exchange, const float* mine, int64_t n, float* out) {
  const size_t row_bytes = size_t(n) * sizeof(float);
  for (int rank = 0; rank < ranks_; ++rank) counts_[rank] = int64_t(exchange.nodes[rank].size() * row_bytes);
  const size_t rows = exchange.place.size();
  if (gathered_.size() < rows * size_t(n)) gathered_.resize(rows * size_t(n));
  all_gather({reinterpret_cast<const std::byte*>(mine), size_t(counts_[rank_])}, counts_,
             reinterpret_cast<std::byte*>(gathered_.data()));
  values_.resize(rows);
  for (size_t row = 0; row < rows; ++row) values_[exchange.place[row]] = gathered_.data() + row * size_t(n);
  finish_trees(exchange.finish, values_, n, out);
}

}  // namespace pleat
