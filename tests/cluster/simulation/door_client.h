#pragma once
// A client of the HTTP door, on a connection of its own.
#include <memory>

#include <kj/compat/http.h>

#include "tests/cluster/simulation/told_texts.h"

namespace pleat::test {

class DoorClient final : public SimulatedClient {
 public:
  DoorClient(kj::Timer& timer, Record& record, SimulatedRouter& router, ClientPlan plan, Random random);

  void lose_router(bool told) override;

 private:
  struct Connection {
    Connection(const kj::HttpHeaderTable& table, kj::Own<kj::AsyncIoStream> stream_)
        : stream(kj::mv(stream_)), http(kj::newHttpClient(table, *stream)) {}
    kj::Own<kj::AsyncIoStream> stream;
    kj::Own<kj::HttpClient> http;
  };

  void arrive() override;
  bool may_be_refused(rpc::Error::Code code) const override;
  kj::Promise<void> connect();
  kj::Promise<void> ask();
  kj::Promise<void> read(kj::HttpClient::Response& response);
  kj::Promise<void> read_on(kj::AsyncInputStream& body);
  kj::Promise<void> manner_of_reading();
  void answered();
  void lost(const kj::Exception& exception);
  void strike(const LineFault& fault);
  void leave_after(kj::Duration at_most);
  void leave();
  void hang_up();
  void check(const std::string& wrong);

  const kj::HttpHeaderTable table_;
  const std::string body_;
  std::shared_ptr<Cable> cable_;
  std::unique_ptr<Connection> connection_;
  std::optional<ToldTexts> told_;
  uint status_ = 0, wait_ms_ = 0;
  std::string error_;  // the body of an answer that is no 200
  size_t pieces_ = 0;
  bool was_struck_ = false;
  kj::TimePoint asked_ = kj::origin<kj::TimePoint>();
  kj::byte buffer_[512];
  kj::Promise<void> running_ = kj::READY_NOW, leaving_ = kj::READY_NOW, striking_ = kj::READY_NOW;
};

}  // namespace pleat::test
