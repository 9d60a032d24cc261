#include "cluster/http/guarded_stream.h"

#include <kj/debug.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/check.h"

namespace pleat {
namespace {

constexpr size_t kAhead = 64 * 1024;  // bytes that are read while nobody wants them
constexpr kj::StringPtr kContinue = "HTTP/1.1 100 Continue\r\n\r\n"_kj;

}  // namespace

kj::Promise<size_t> GuardedStream::tryRead(void* buffer, size_t least, size_t most) {
  if (checked_.size() >= least || ended_) {
    const size_t size = std::min(most, checked_.size());
    std::memcpy(buffer, checked_.data(), size);
    checked_.erase(0, size);
    if (room_.get() && checked_.size() <= kAhead) room_->fulfill();
    return size;
  }
  if (framing_.fault().status != 0)
    return kj::Exception(kj::Exception::Type::FAILED, __FILE__, __LINE__, kj::heapString(framing_.fault().sentence));
  if (framing_.expects_leave())
    return write(kContinue.begin(), kContinue.size()).then([this, buffer, least, most] {
      return tryRead(buffer, least, most);
    });
  return fill().then([this, buffer, least, most] { return tryRead(buffer, least, most); });
}

kj::Promise<void> GuardedStream::client_left() {
  if (left_) return kj::READY_NOW;
  if (framing_.fault().status != 0) return kj::NEVER_DONE;
  if (checked_.size() <= kAhead) return fill().then([this] { return client_left(); });
  auto room = kj::newPromiseAndFulfiller<void>();
  room_ = kj::mv(room.fulfiller);
  return room.promise.then([this] { return client_left(); });
}

kj::Promise<void> GuardedStream::in_time(kj::Promise<void> written) {
  return written.exclusiveJoin(timer_.afterDelay(write_timeout_).then([]() -> kj::Promise<void> {
    return KJ_EXCEPTION(DISCONNECTED, "the client takes nothing");
  }));
}

void GuardedStream::end() {
  checked_.clear();
  ended_ = true;
}

kj::Promise<void> GuardedStream::fill() {
  if (!std::exchange(reading_, true))
    filling_ = inner_->tryRead(buffer_, 1, sizeof buffer_).then([this](size_t size) { take(size); }).fork();
  return filling_.addBranch();
}

void GuardedStream::take(size_t size) {
  reading_ = false;
  if (size == 0) {
    left_ = ended_ = true;
    return;
  }
  framing_.take({reinterpret_cast<const char*>(buffer_), size}, checked_);
  if (!framing_.fault_in_header()) return;
  checked_ += concat("GET ", kRefusedPath, " HTTP/1.1\r\nHost: pleat\r\n\r\n");
  ended_ = true;
}

}  // namespace pleat
