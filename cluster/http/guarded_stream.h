#pragma once
// A client's connection with its framing checked, and an eye on whether the client is still there.
#include <kj/async-io.h>
#include <kj/timer.h>

#include "cluster/http/framing.h"

namespace pleat {

class GuardedStream final : public kj::AsyncIoStream {
 public:
  // What kj-http reads in place of a header block that is not let through, so that its answers keep their order: a
  // request for this path, which only says that fault() says what to answer.
  static constexpr const char* kRefusedPath = "/.refused";

  GuardedStream(kj::Own<kj::AsyncIoStream> inner, kj::Timer& timer, const HttpLimits& limits)
      : inner_(kj::mv(inner)), timer_(timer), write_timeout_(limits.write_timeout), framing_(limits.framing) {}

  const FramingFault& fault() const { return framing_.fault(); }
  bool old() const { return framing_.old(); }
  // Ready when the client has closed its side. It is not watched while a lot that it has sent is unread.
  kj::Promise<void> client_left();

  // Nothing more is read: after an answer that closes the connection.
  void end();

  // Fails where a body is malformed. A client that waits for leave to send it gets that first.
  kj::Promise<size_t> tryRead(void* buffer, size_t least, size_t most) override;
  // Fail where the client does not take it all in time.
  kj::Promise<void> write(const void* buffer, size_t size) override {
    framing_.told();
    return in_time(inner_->write(buffer, size));
  }
  kj::Promise<void> write(kj::ArrayPtr<const kj::ArrayPtr<const kj::byte>> pieces) override {
    framing_.told();
    return in_time(inner_->write(pieces));
  }
  kj::Promise<void> whenWriteDisconnected() override { return inner_->whenWriteDisconnected(); }
  void shutdownWrite() override { inner_->shutdownWrite(); }
  void getpeername(struct sockaddr* address, uint* length) override { inner_->getpeername(address, length); }

 private:
  kj::Promise<void> fill();
  kj::Promise<void> in_time(kj::Promise<void> written);
  void take(size_t size);

  kj::Own<kj::AsyncIoStream> inner_;
  kj::Timer& timer_;
  const kj::Duration write_timeout_;
  Framing framing_;
  kj::byte buffer_[8192];
  std::string checked_;  // and not read yet
  bool left_ = false;    // the client has
  bool ended_ = false;   // nothing comes after what is checked
  bool reading_ = false;
  kj::Own<kj::PromiseFulfiller<void>> room_;  // to read ahead, where client_left() waits for it
  kj::ForkedPromise<void> filling_ = kj::Promise<void>(kj::READY_NOW).fork();  // the last read, for all who wait for it
};

}  // namespace pleat
