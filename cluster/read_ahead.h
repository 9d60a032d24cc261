#pragma once
// A connection that is read in pieces as large as they come. Cap'n Proto reads a message's first word and then the
// rest, which over a socket is a call of the system each.
#include <kj/async-io.h>

namespace pleat {

class ReadAhead final : public kj::AsyncIoStream {
 public:
  explicit ReadAhead(kj::Own<kj::AsyncIoStream> inner) : inner_(kj::mv(inner)) {}

  kj::Promise<size_t> tryRead(void* buffer, size_t least, size_t most) override;

  kj::Promise<void> write(const void* buffer, size_t size) override { return inner_->write(buffer, size); }
  kj::Promise<void> write(kj::ArrayPtr<const kj::ArrayPtr<const kj::byte>> pieces) override {
    return inner_->write(pieces);
  }
  kj::Promise<void> whenWriteDisconnected() override { return inner_->whenWriteDisconnected(); }
  void shutdownWrite() override { inner_->shutdownWrite(); }
  void abortRead() override { inner_->abortRead(); }
  void getsockopt(int level, int option, void* value, kj::uint* length) override {
    inner_->getsockopt(level, option, value, length);
  }

 private:
  kj::Own<kj::AsyncIoStream> inner_;
  kj::byte bytes_[4096];
  size_t begin_ = 0, end_ = 0;  // of those that nobody has read
};

}  // namespace pleat
