#include "tests/cluster/simulation/door_client.h"

#include "tests/cluster/simulation/chance.h"

#include <algorithm>

namespace pleat::test {
namespace {

using Code = rpc::Error::Code;

constexpr uint32_t kKeptMs = 10'000;  // a connection with nothing to do: less than the door's idle timeout
constexpr auto kConnectPatience = 5 * kj::SECONDS;
constexpr auto kLeastAgain = 100 * kj::MILLISECONDS, kMostAgain = 2 * kj::SECONDS;
constexpr auto kUnsaid = 8 * kj::SECONDS;  // until a client finds that its router is silent, at most

Code code_of(const std::string& name) {
  if (name == "tooManyRequests") return Code::QUEUE_FULL;
  for (const Code code : {Code::QUEUE_FULL, Code::DRAINING, Code::UNAVAILABLE, Code::SLOW_READER, Code::TOO_LARGE})
    if (name == name_of(code)) return code;
  return Code::INTERNAL;
}

uint status_of(Code code) {
  switch (code) {
    case Code::TOO_LARGE:
      return 400;
    case Code::QUEUE_FULL:
      return 429;
    default:
      return 503;
  }
}

uint32_t wait_of(const kj::HttpHeaders& headers) {
  uint32_t seconds = 0;
  headers.forEach([&](kj::StringPtr name, kj::StringPtr value) {
    if (name == "Retry-After") seconds = value.parseAs<uint32_t>();
  });
  return seconds * 1000;
}

}  // namespace

DoorClient::DoorClient(kj::Timer& timer, Record& record, SimulatedRouter& router, ClientPlan plan, Random random)
    : SimulatedClient(timer, record, router, std::move(plan), random), body_(openai_body(plan_)) {}

void DoorClient::arrive() {
  record_.note("client ", plan_.number, connection_ ? " asks again" : " connects");
  running_ = kj::READY_NOW;  // of an attempt before
  told_.emplace(plan_);
  error_.clear();
  pieces_ = 0;
  asked_ = timer_.now();
  auto connected = connection_ ? kj::Promise<void>(kj::READY_NOW) : connect();
  running_ = connected.then([this] { return ask(); })
                 .then([this] { answered(); }, [this](kj::Exception&& exception) { lost(exception); })
                 .eagerlyEvaluate(nullptr);
}

kj::Promise<void> DoorClient::connect() {
  cable_ = std::make_shared<Cable>(timer_, record_, plan_.line, random_.another());
  if (plan_.fault && !was_struck_)
    striking_ = timer_.afterDelay(plan_.fault->after).then([this] { strike(*plan_.fault); }).eagerlyEvaluate(nullptr);
  auto late = timer_.afterDelay(kConnectPatience).then([]() -> kj::Promise<kj::Own<kj::AsyncIoStream>> {
    return KJ_EXCEPTION(DISCONNECTED, "nobody answers");
  });
  return router_.port()
      .connect(cable_, concat("10.0.0.", plan_.number % kAddresses))
      .exclusiveJoin(kj::mv(late))
      .then([this](kj::Own<kj::AsyncIoStream> stream) {
        connection_ = std::make_unique<Connection>(table_, kj::mv(stream));
      });
}

kj::Promise<void> DoorClient::ask() {
  kj::HttpHeaders headers(table_);
  headers.set(kj::HttpHeaderId::HOST, "router");
  headers.set(kj::HttpHeaderId::CONTENT_TYPE, "application/json");
  auto request = connection_->http->request(kj::HttpMethod::POST, "/v1/completions", headers, body_.size());
  if (plan_.manner == Manner::leaves && !plan_.streams) leave_after(plan_.pace * int64_t(plan_.patience));
  // Whoever fails sends a half, and waits.
  auto sent = request.body->write(body_.data(), plan_.manner == Manner::fails ? body_.size() / 2 : body_.size());
  if (plan_.manner != Manner::fails) sent = sent.attach(kj::mv(request.body));
  return sent.then([response = kj::mv(request.response)]() mutable { return kj::mv(response); })
      .then([this](kj::HttpClient::Response&& response) {
        auto held = kj::heap(kj::mv(response));
        auto read = this->read(*held);
        return read.attach(kj::mv(held));
      })
      .attach(kj::mv(request.body));
}

kj::Promise<void> DoorClient::read(kj::HttpClient::Response& response) {
  record_.note("client ", plan_.number, " is answered ", response.statusCode);
  status_ = response.statusCode;
  wait_ms_ = wait_of(*response.headers);
  if (status_ == 200 && router_.drains_at(asked_))
    record_.broken("client ", plan_.number, " gets a text although the router drains");
  if (status_ == 200) return read_on(*response.body);
  return response.body->readAllText().then([this](kj::String text) { error_ = text.cStr(); });
}

kj::Promise<void> DoorClient::read_on(kj::AsyncInputStream& body) {
  return body.tryRead(buffer_, 1, size_t(random_.between(1, sizeof buffer_)))
      .then([this, &body](size_t size) -> kj::Promise<void> {
        if (size == 0) return kj::READY_NOW;
        if (over()) record_.broken("client ", plan_.number, " gets something after the end");
        check(told_->take({reinterpret_cast<const char*>(buffer_), size}));
        ++pieces_;
        record_.note("client ", plan_.number, " has ", told_->tokens(), " tokens");
        return manner_of_reading().then([this, &body] {
          taken_ = std::max(taken_, told_->tokens());
          return read_on(body);
        });
      });
}

kj::Promise<void> DoorClient::manner_of_reading() {
  if (plan_.manner == Manner::stops_reading && pieces_ >= plan_.patience) {
    close(End::left);
    return kj::NEVER_DONE;  // and keeps the connection
  }
  if (plan_.manner == Manner::leaves && pieces_ == plan_.patience) leave_after(plan_.pace);
  if (plan_.manner != Manner::reads_slowly) return kj::READY_NOW;
  return timer_.afterDelay(random_.between(0 * kj::SECONDS, plan_.pace));
}

void DoorClient::answered() {
  if (plan_.manner == Manner::fails) {
    const bool refused = status_ == 408 && timer_.now() >= asked_ + router_.limits().body_timeout;
    if (!refused) record_.broken("client ", plan_.number, " sent a half and is answered ", status_);
    hang_up();
    return close(End::refused);
  }
  check(status_ == 200 ? told_->end() : told_->take_error(error_));
  if (told_->code().empty()) {
    hang_up();
    return close(End::whole);
  }
  const Code code = code_of(told_->code());
  if (!told_->begun() && status_ != status_of(code))
    record_.broken("client ", plan_.number, " is answered ", status_, ": ", told_->message().c_str());
  // A stream has nowhere to say when to come again.
  refused(code, told_->message().c_str(), told_->begun() ? 1000 : wait_ms_, told_->begun());
  if (over() || wait_ms_ >= kKeptMs) hang_up();
}

bool DoorClient::may_be_refused(Code code) const {
  // One whose line stands still, or sends again what was lost, takes nothing for so long.
  const bool stands_still = was_struck_ || plan_.line.lost > 0;
  if (code == Code::SLOW_READER) return plan_.streams && (stands_still || SimulatedClient::may_be_refused(code));
  return SimulatedClient::may_be_refused(code);
}

// What may end a connection without an answer: a fault, too many others, or a stop of its own.
void DoorClient::lost(const kj::Exception& exception) {
  record_.note("client ", plan_.number, " has lost its connection: ", exception.getDescription());
  hang_up();
  if (over()) return;
  const bool full = router_.last_full() >= asked_;
  if (exception.getType() != kj::Exception::Type::DISCONNECTED || !(plan_.meets_faults || full))
    record_.broken("client ", plan_.number, ": ", exception.getDescription());
  come_again(random_.between(kLeastAgain, kMostAgain));
}

void DoorClient::strike(const LineFault& fault) {
  if (over()) return;
  was_struck_ = true;
  constexpr const char* names[] = {"stalls", "breaks", "carries nothing there", "carries nothing back", "is dead"};
  record_.note("client ", plan_.number, "'s line ", names[int(fault.kind)]);
  if (fault.kind == LineFault::stall) return cable_->stall(timer_.now() + fault.lasts);
  if (fault.kind == LineFault::reset) return cable_->reset();
  if (fault.kind != LineFault::mute) cable_->there.stall(nullptr);
  if (fault.kind != LineFault::deaf) cable_->back.stall(nullptr);
  leaving_ = timer_.afterDelay(fault.lasts).then([this] { leave(); }).eagerlyEvaluate(nullptr);
}

void DoorClient::lose_router(bool told) {
  if (told || over() || !connection_) return;
  leaving_ = timer_.afterDelay(random_.between(0 * kj::SECONDS, kUnsaid))
                 .then([this] {
                   if (over()) return;
                   running_ = kj::READY_NOW;
                   lost(KJ_EXCEPTION(DISCONNECTED, "the router is silent"));
                 })
                 .eagerlyEvaluate(nullptr);
}

void DoorClient::leave_after(kj::Duration at_most) {
  leaving_ =
      timer_.afterDelay(random_.between(0 * kj::SECONDS, at_most)).then([this] { leave(); }).eagerlyEvaluate(nullptr);
}

void DoorClient::leave() {
  if (over()) return;
  running_ = kj::READY_NOW;
  hang_up();
  close(End::left);
}

void DoorClient::hang_up() {
  striking_ = kj::READY_NOW;
  connection_ = nullptr;
}

void DoorClient::check(const std::string& wrong) {
  if (!wrong.empty()) record_.broken("client ", plan_.number, ": ", wrong.c_str());
}

}  // namespace pleat::test
