#include "cluster/read_ahead.h"

#include <algorithm>
#include <cstring>

namespace pleat {

kj::Promise<size_t> ReadAhead::tryRead(void* buffer, size_t least, size_t most) {
  const size_t held = std::min(most, end_ - begin_);
  std::memcpy(buffer, bytes_ + begin_, held);
  begin_ += held;
  if (held >= least) return held;
  auto* rest = static_cast<kj::byte*>(buffer) + held;
  if (least - held >= sizeof bytes_)
    return inner_->tryRead(rest, least - held, most - held).then([held](size_t read) { return held + read; });
  return inner_->tryRead(bytes_, least - held, sizeof bytes_).then([=, this](size_t read) {
    begin_ = std::min(read, most - held);
    end_ = read;
    std::memcpy(rest, bytes_, begin_);
    return held + begin_;
  });
}

}  // namespace pleat
