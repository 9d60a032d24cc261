#include "tests/cluster/simulation/cable.h"

#include <kj/debug.h>
#include <kj/vector.h>

#include <algorithm>
#include <cstring>

namespace pleat::test {
namespace {

constexpr auto kRetransmission = 200 * kj::MILLISECONDS;  // as Linux waits at least

kj::Exception gone() { return KJ_EXCEPTION(DISCONNECTED, "the connection is broken"); }

class End final : public kj::AsyncIoStream {
 public:
  End(std::shared_ptr<Cable> cable, Flow& in, Flow& out) : cable_(std::move(cable)), in_(in), out_(out) {}
  ~End() noexcept(false) {
    out_.end();
    in_.abandon();
  }
  KJ_DISALLOW_COPY(End);

  kj::Promise<size_t> tryRead(void* to, size_t least, size_t most) override {
    return in_.read(static_cast<kj::byte*>(to), least, most);
  }
  kj::Promise<void> write(const void* bytes, size_t size) override {
    return out_.write(kj::heapArray(static_cast<const kj::byte*>(bytes), size));
  }
  kj::Promise<void> write(kj::ArrayPtr<const kj::ArrayPtr<const kj::byte>> pieces) override {
    kj::Vector<kj::byte> all;
    for (const auto& piece : pieces) all.addAll(piece);
    return out_.write(all.releaseAsArray());
  }
  kj::Promise<void> whenWriteDisconnected() override { return kj::NEVER_DONE; }
  void shutdownWrite() override { out_.end(); }
  void abortRead() override { in_.abandon(); }
  // What is asked for is the send buffer, whose size becomes the window of a stream's calls.
  void getsockopt(int, int, void* value, uint* length) override {
    const int size = int(kWindowBytes);
    std::memcpy(value, &size, sizeof size);
    *length = sizeof size;
  }

 private:
  const std::shared_ptr<Cable> cable_;
  Flow &in_, &out_;
};

}  // namespace

CableEnds ends_of(const std::shared_ptr<Cable>& cable) {
  return {kj::heap<End>(cable, cable->back, cable->there), kj::heap<End>(cable, cable->there, cable->back)};
}

kj::Promise<void> Flow::sleep(Sleeper& sleeper) {
  auto paf = kj::newPromiseAndFulfiller<void>();
  sleeper = kj::mv(paf.fulfiller);
  return kj::mv(paf.promise);
}

void Flow::wake(Sleeper& sleeper) {
  KJ_IF_MAYBE (sleeping, sleeper) {
    (*sleeping)->fulfill();
    sleeper = nullptr;
  }
}

kj::TimePoint Flow::arrival() {
  kj::Duration delay = quality_.delay + random_.between(0 * kj::SECONDS, quality_.jitter);
  if (random_.chance(quality_.lost)) delay += kRetransmission;
  return last_arrival_ = std::max(last_arrival_, timer_.now() + delay);
}

kj::Promise<void> Flow::write(kj::Array<kj::byte> bytes) {
  if (broken_ || (abandoned_ && !stalled())) return gone();
  if (under_way_ > 0 && under_way_ + bytes.size() > quality_.holds)
    return sleep(writer_).then([this, held = kj::mv(bytes)]() mutable { return write(kj::mv(held)); });
  under_way_ += bytes.size();
  parcels_.push_back({arrival(), kj::mv(bytes)});
  wake(reader_);
  return kj::READY_NOW;
}

kj::Promise<size_t> Flow::read(kj::byte* to, size_t least, size_t most, size_t got) {
  while (got < most && !stalled() && !parcels_.empty() && timer_.now() >= parcels_.front().arrives) {
    Parcel& first = parcels_.front();
    if (first.bytes.size() == 0) return got;
    const size_t count = std::min(most - got, first.bytes.size() - first.taken);
    std::memcpy(to + got, first.bytes.begin() + first.taken, count);
    record_.count(count);
    got += count;
    under_way_ -= count;
    if ((first.taken += count) == first.bytes.size()) parcels_.pop_front();
    wake(writer_);
  }
  if (got >= least) return got;
  if (broken_) return gone();
  return until_more().then([this, to, least, most, got] { return read(to, least, most, got); });
}

kj::Promise<void> Flow::until_more() {
  auto changed = sleep(reader_);
  if (stalled() || parcels_.empty()) return changed;
  return changed.exclusiveJoin(timer_.atTime(parcels_.front().arrives));
}

void Flow::end() {
  if (broken_) return;
  parcels_.push_back({arrival(), nullptr});
  wake(reader_);
}

void Flow::abandon() {
  abandoned_ = true;
  if (!stalled()) wake(writer_);
}

void Flow::stall(kj::Maybe<kj::TimePoint> until) {
  KJ_IF_MAYBE (end, until) {
    stalled_until_ = std::max(stalled_until_, *end);
    alarm_ = timer_.atTime(stalled_until_)
                 .then([this] {
                   wake(reader_);
                   wake(writer_);
                 })
                 .eagerlyEvaluate(nullptr);
  } else {
    dead_ = true;
  }
}

void Flow::reset() {
  broken_ = true;
  parcels_.clear();
  wake(reader_);
  wake(writer_);
}

void Cable::stall(kj::Maybe<kj::TimePoint> until) {
  there.stall(until);
  back.stall(until);
}

void Cable::reset() {
  there.reset();
  back.reset();
}

void Cables::add(const std::shared_ptr<Cable>& cable) {
  std::erase_if(cables_, [](const auto& known) { return known.expired(); });
  cables_.push_back(cable);
}

template <class Act>
void Cables::each(Act&& act) {
  for (const auto& known : cables_)
    if (const auto cable = known.lock()) act(*cable);
}

void Cables::stall(kj::Maybe<kj::TimePoint> until) {
  each([&](Cable& cable) { cable.stall(until); });
}

void Cables::reset() {
  each([](Cable& cable) { cable.reset(); });
}

void Cables::half_open(bool there) {
  each([&](Cable& cable) { (there ? cable.there : cable.back).stall(nullptr); });
}

}  // namespace pleat::test
