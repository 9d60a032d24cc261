#include "cluster/http/receiver.h"

#include <functional>

#include "cluster/http/upload.h"
#include "cluster/router/waiting.h"
#include "kernels/check.h"

namespace pleat {

namespace {
constexpr size_t kPiece = 64 * 1024;  // bytes that are read, and written, at a time
}

// One on its way. It is read no further once it is at fault.
struct Receiver::Upcoming : Received {
  Upcoming(const FileStore& store, const std::string& content_type, const std::string& owner_)
      : upload(store, content_type, owner_), owner(owner_) {}

  // On the disk's thread.
  void attempt(const std::function<void()>& work) {
    try {
      work();
    } catch (const Error& error) {
      fault = http_error(error);
    } catch (const std::exception& error) {
      fault = http_error(Error(ErrorKind::failed, error.what()));
    }
  }

  Upload upload;
  const std::string owner;
  kj::byte piece[kPiece];
};

kj::Promise<std::shared_ptr<const Received>> Receiver::take(const std::string& content_type, const std::string& owner,
                                                            kj::AsyncInputStream& body) {
  std::shared_ptr<Upcoming> coming;
  try {
    coming = std::make_shared<Upcoming>(store_, content_type, owner);
  } catch (const Error& error) {
    return std::shared_ptr<const Received>(std::make_shared<Received>(Received{{}, http_error(error)}));
  }
  return receive(coming, body).then([this, coming] { return finish(coming); }).then([coming] {
    return std::shared_ptr<const Received>(coming);
  });
}

kj::Promise<void> Receiver::receive(std::shared_ptr<Upcoming> coming, kj::AsyncInputStream& body) {
  auto read = within(timer_, patience_, body.tryRead(coming->piece, kPiece, kPiece), "the body did not come in time");
  return read.then([this, coming, &body](size_t size) -> kj::Promise<void> {
    if (size == 0) return kj::READY_NOW;
    auto written = disk_.run([coming, size] {
      coming->attempt([&] { coming->upload.take({reinterpret_cast<const char*>(coming->piece), size}); });
    });
    return written.then(
        [this, coming, &body]() -> kj::Promise<void> { return coming->fault ? kj::READY_NOW : receive(coming, body); });
  });
}

kj::Promise<void> Receiver::finish(std::shared_ptr<Upcoming> coming) {
  if (!coming->fault && store_.full(coming->owner))
    coming->fault = invalid_request(concat("there are ", FileStore::kMostFiles, " files; delete some first"));
  if (coming->fault) return kj::READY_NOW;
  auto finished = disk_.run([coming] { coming->attempt([&] { coming->file = coming->upload.finish(); }); })
                      .then([this, coming] {
                        if (!coming->fault) store_.add(coming->file);
                      })
                      .fork();
  finishing_.add(finished.addBranch());
  return finished.addBranch();
}

}  // namespace pleat
