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
  const bool straight = least - held >= sizeof bytes_;
  auto reading = straight ? inner_->tryRead(rest, least - held, most - held)
                          : inner_->tryRead(bytes_, least - held, sizeof bytes_);
  return reading.then([this, straight, rest, held, most](size_t read) {
    if (straight) return held + read;
    begin_ = std::min(read, most - held);
    end_ = read;
    std::copy_n(bytes_, begin_, rest);
    return held + begin_;
  });
}

}  // namespace pleat
