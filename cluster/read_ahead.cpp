#include "cluster/read_ahead.h"

#include <algorithm>

namespace pleat {

kj::Promise<size_t> ReadAhead::tryRead(void* buffer, size_t least, size_t most) {
  const size_t held = std::min(most, end_ - begin_);
  auto* to = static_cast<kj::byte*>(buffer);  // may be nullptr for no bytes
  std::copy_n(bytes_ + begin_, held, to);
  begin_ += held;
  if (held >= least) return held;
  auto* rest = to + held;
  if (least - held >= sizeof bytes_)
    return inner_->tryRead(rest, least - held, most - held).then([held](size_t read) { return held + read; });
  return inner_->tryRead(bytes_, least - held, sizeof bytes_).then([=, this](size_t read) {
    begin_ = std::min(read, most - held);
    end_ = read;
    std::copy_n(bytes_, begin_, rest);
    return held + begin_;
  });
}

}  // namespace pleat
