#pragma once
// A connection between two programs, as a network gives it: bytes arrive later, in order, in pieces; some are lost on
// their way and sent again; it stands still, breaks, or is silently dead. Nothing of it is real but the bytes.
#include <deque>
#include <memory>
#include <vector>

#include <kj/async-io.h>
#include <kj/timer.h>

#include "tests/cluster/simulation/random.h"
#include "tests/cluster/simulation/record.h"

namespace pleat::test {

constexpr size_t kWindowBytes = 1024;  // of a stream's calls without an answer

struct CableQuality {
  kj::Duration delay = 100 * kj::MICROSECONDS, jitter = 100 * kj::MICROSECONDS;
  int lost = 0;         // percent of the pieces, which come a retransmission later
  size_t holds = 4096;  // bytes under way in one direction
};

// One direction.
class Flow {
 public:
  Flow(kj::Timer& timer, Record& record, const CableQuality& quality, Random random)
      : timer_(timer), record_(record), quality_(quality), random_(random) {}
  KJ_DISALLOW_COPY(Flow);

  kj::Promise<void> write(kj::Array<kj::byte> bytes);
  kj::Promise<size_t> read(kj::byte* to, size_t least, size_t most, size_t got = 0);
  // The writer sends no more; the reader takes no more.
  void end();
  void abandon();

  // Nothing arrives before `until`; null: nothing at all any more, and nobody is told.
  void stall(kj::Maybe<kj::TimePoint> until);
  // Both sides see it break now.
  void reset();

 private:
  using Sleeper = kj::Maybe<kj::Own<kj::PromiseFulfiller<void>>>;
  struct Parcel {
    kj::TimePoint arrives;
    kj::Array<kj::byte> bytes;  // none: the end
    size_t taken = 0;
  };
  static kj::Promise<void> sleep(Sleeper& sleeper);
  static void wake(Sleeper& sleeper);
  bool stalled() const { return dead_ || timer_.now() < stalled_until_; }
  kj::TimePoint arrival();
  kj::Promise<void> until_more();

  kj::Timer& timer_;
  Record& record_;
  const CableQuality quality_;
  Random random_;
  std::deque<Parcel> parcels_;
  size_t under_way_ = 0;  // bytes
  kj::TimePoint last_arrival_ = kj::origin<kj::TimePoint>(), stalled_until_ = kj::origin<kj::TimePoint>();
  bool dead_ = false, broken_ = false, abandoned_ = false;
  Sleeper reader_, writer_;
  kj::Promise<void> alarm_ = kj::READY_NOW;  // at the end of a stall
};

class Cable {
 public:
  Cable(kj::Timer& timer, Record& record, const CableQuality& quality, Random random)
      : quality(quality),
        there(timer, record, quality, random.another()),
        back(timer, record, quality, random.another()) {}

  void stall(kj::Maybe<kj::TimePoint> until);
  void reset();

  const CableQuality quality;
  Flow there, back;
};

// Its two ends; that of `there`'s writer first.
struct CableEnds {
  kj::Own<kj::AsyncIoStream> near, far;
};
CableEnds ends_of(const std::shared_ptr<Cable>& cable);

// Those of one program, and what befalls them together.
class Cables {
 public:
  void add(const std::shared_ptr<Cable>& cable);
  void stall(kj::Maybe<kj::TimePoint> until);
  void reset();
  // One direction of each is dead from now on.
  void half_open(bool there);

 private:
  template <class Act>
  void each(Act&& act);

  std::vector<std::weak_ptr<Cable>> cables_;
};

}  // namespace pleat::test
