#include "parallel/shared_exchange.h"

#include <algorithm>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace pleat {
namespace {

constexpr int64_t kSlotBytes = 512 << 10;
constexpr int64_t kHeaderBytes = 128;
// From so many bytes to read on, all ranks' nodes together, each rank adds up its share of the columns only and the
// others copy it: less to read, at the price of one more wait.
constexpr int64_t kTwoShotBytes = 256 << 10;
constexpr int64_t kColumns = 16;  // a cache line of floats: no two ranks write one line
// From so many floats on, stores go past the caches: a line that the reader still holds from two rounds before would be
// taken from its cache first, one by one.
constexpr int64_t kStreamFloats = 1024;

// n floats to a slot, `to` at a cache line.
void copy_to_slot(const float* from, int64_t n, float* to) {
#if defined(__SSE2__)
  if (n >= kStreamFloats) {
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) _mm_stream_ps(to + i, _mm_loadu_ps(from + i));
    std::copy(from + i, from + n, to + i);
    _mm_sfence();  // before the round is posted
    return;
  }
#endif
  std::copy_n(from, n, to);
}

int64_t whole_lines(int64_t n) { return (n + kColumns - 1) / kColumns * kColumns; }

}  // namespace

struct alignas(128) SharedExchange::Mailbox {  // two lines: neighbouring lines are fetched together
  std::atomic<int64_t> posted{0};
};

size_t SharedExchange::region_bytes(int ranks) {
  return kHeaderBytes + size_t(ranks) * sizeof(Mailbox) + 2 * size_t(ranks) * kSlotBytes;
}

std::atomic<int32_t>& SharedExchange::blamed(std::byte* region) {
  return *reinterpret_cast<std::atomic<int32_t>*>(region);
}

SharedExchange::SharedExchange(std::byte* region, int rank, int ranks, Watch watch)
    : rank_(rank),
      ranks_(ranks),
      watch_(std::move(watch)),
      mailboxes_(reinterpret_cast<Mailbox*>(region + kHeaderBytes)),
      slots_(region + kHeaderBytes + ranks * sizeof(Mailbox)) {}

std::byte* SharedExchange::slot(int rank) const { return slots_ + ((round_ & 1) * ranks_ + rank) * kSlotBytes; }

void SharedExchange::post_and_wait() {
  mailboxes_[rank_].posted.store(round_, std::memory_order_release);
  const auto behind = [this](int peer) { return mailboxes_[peer].posted.load(std::memory_order_acquire) < round_; };
  int next = 0;
  const auto all_posted = [&] {
    while (next < ranks_ && !behind(next)) ++next;
    return next == ranks_;
  };
  watch_.wait(all_posted, behind);
}

void SharedExchange::barrier() {
  begin_round();
  post_and_wait();
}

void SharedExchange::tree_all_reduce(const TreeExchange& exchange, const float* mine, int64_t n, float* out) {
  const int64_t column_bytes = int64_t(exchange.place.size() * sizeof(float));
  const int64_t columns = kSlotBytes / (exchange.most_nodes * int64_t(sizeof(float))) / kColumns * kColumns;
  for (int64_t begin = 0; begin < n; begin += columns) {
    const int64_t size = std::min(columns, n - begin);
    const float* part = mine ? mine + begin : nullptr;
    if (size * column_bytes < kTwoShotBytes) {
      one_shot(exchange, part, n, size, out + begin);
    } else {
      two_shot(exchange, part, n, size, out + begin);
    }
  }
}

// Writes this rank's nodes [nodes][n] into its slot; afterwards values_ points at all ranks' nodes: this one's where
// they were, if the sums do not go there, and then the columns [first, end), which no other rank reads, are not
// written.
void SharedExchange::share_nodes(const TreeExchange& exchange, const float* mine, int64_t stride, int64_t n,
                                 const float* out, int64_t first, int64_t end) {
  begin_round();
  float* to = reinterpret_cast<float*>(slot(rank_));
  if (mine == out) first = end = 0;
  for (size_t node = 0; node < exchange.nodes[rank_].size(); ++node, to += whole_lines(n)) {
    copy_to_slot(mine + node * stride, first, to);
    copy_to_slot(mine + node * stride + end, n - end, to + end);
  }
  post_and_wait();
  values_.resize(exchange.place.size());
  const int* place = exchange.place.data();
  for (int rank = 0; rank < ranks_; ++rank) {
    const bool in_place = rank == rank_ && mine != out;
    const float* from = in_place ? mine : reinterpret_cast<const float*>(slot(rank));
    const int64_t step = in_place ? stride : whole_lines(n);
    for (size_t node = 0; node < exchange.nodes[rank].size(); ++node) values_[*place++] = from + node * step;
  }
}

void SharedExchange::one_shot(const TreeExchange& exchange, const float* mine, int64_t stride, int64_t n, float* out) {
  share_nodes(exchange, mine, stride, n, out, 0, 0);
  finish_trees(exchange.finish, values_, n, out);
}

void SharedExchange::two_shot(const TreeExchange& exchange, const float* mine, int64_t stride, int64_t n, float* out) {
  const auto first_column = [&](int rank) {
    return std::min(n, (n * rank / ranks_ + kColumns - 1) / kColumns * kColumns);
  };
  const int64_t first = first_column(rank_), end = rank_ + 1 == ranks_ ? n : first_column(rank_ + 1);
  share_nodes(exchange, mine, stride, n, out, first, end);

  // Finish this rank's columns, and share them in the next round's slot.
  for (const float*& value : values_) value += first;
  begin_round();
  finish_trees(exchange.finish, values_, end - first, out + first);
  copy_to_slot(out + first, end - first, reinterpret_cast<float*>(slot(rank_)));
  post_and_wait();

  for (int rank = 0; rank < ranks_; ++rank) {
    if (rank == rank_) continue;
    const int64_t begin = first_column(rank), stop = rank + 1 == ranks_ ? n : first_column(rank + 1);
    std::memcpy(out + begin, slot(rank), size_t(stop - begin) * sizeof(float));
  }
}

void SharedExchange::all_gather(std::span<const std::byte> mine, std::span<const int64_t> counts, std::byte* all) {
  const int64_t most = *std::max_element(counts.begin(), counts.end());
  const auto part = [](int64_t count, int64_t begin) {
    return size_t(std::clamp<int64_t>(count - begin, 0, kSlotBytes));
  };
  for (int64_t begin = 0; begin == 0 || begin < most; begin += kSlotBytes) {
    begin_round();
    if (const size_t size = part(counts[rank_], begin)) std::memcpy(slot(rank_), mine.data() + begin, size);
    post_and_wait();
    if (!all) continue;
    std::byte* to = all;
    for (int rank = 0; rank < ranks_; to += counts[rank++]) {
      if (const size_t size = part(counts[rank], begin)) std::memcpy(to + begin, slot(rank), size);
    }
  }
}

void SharedExchange::broadcast(std::span<std::byte> bytes) {
  const int64_t total = int64_t(bytes.size());
  for (int64_t begin = 0; begin == 0 || begin < total; begin += kSlotBytes) {
    const size_t size = size_t(std::min(kSlotBytes, total - begin));
    begin_round();
    if (rank_ == 0 && size) std::memcpy(slot(0), bytes.data() + begin, size);
    post_and_wait();
    if (rank_ != 0 && size) std::memcpy(bytes.data() + begin, slot(0), size);
  }
}

}  // namespace pleat
