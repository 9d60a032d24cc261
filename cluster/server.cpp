#include "cluster/server.h"

#include <sys/socket.h>

#include <future>
#include <map>
#include <thread>

#include "cluster/address.h"
#include "cluster/connections.h"
#include "cluster/engine_worker.h"
#include "cluster/tls.h"
#include "kernels/attention.h"

namespace pleat {
namespace {

constexpr int kSendBuffer = 64 * 1024;  // of a connection; Linux doubles it, and a stream's flow window is as large
constexpr size_t kHandshakes = 64;      // at a time
constexpr auto kHandshakePatience = 10 * kj::SECONDS;
constexpr auto kAcceptPause = 100 * kj::MILLISECONDS;
constexpr auto kFlushPatience = 1 * kj::SECONDS;

kj::Duration duration(std::chrono::milliseconds time) { return int64_t(time.count()) * kj::MILLISECONDS; }

// The door: connections come in, through a handshake where there is one.
class Door : private kj::TaskSet::ErrorHandler {
 public:
  Door(kj::ConnectionReceiver& receiver, kj::Timer& timer, Connections& connections, Tls* tls)
      : receiver_(receiver), timer_(timer), connections_(connections), tls_(tls), handshakes_(*this) {}

  // For ever.
  kj::Promise<void> accept() {
    return receiver_.accept()
        .then([this](kj::Own<kj::AsyncIoStream> stream) {
          stream->setsockopt(SOL_SOCKET, SO_SNDBUF, &kSendBuffer, sizeof kSendBuffer);
          if (tls_)
            handshakes_.add(shake_hands(kj::mv(stream)));
          else
            connections_.add(kj::mv(stream));
        })
        .catch_([this](kj::Exception&&) {  // no file descriptor is left, or the client is gone already
          return timer_.afterDelay(kAcceptPause);
        })
        .then([this] { return accept(); });
  }

 private:
  kj::Promise<void> shake_hands(kj::Own<kj::AsyncIoStream> stream) {
    // Who only connects, and says nothing, keeps nobody else out.
    if (shaking_.size() >= kHandshakes)
      shaking_.begin()->second->reject(KJ_EXCEPTION(OVERLOADED, "there are newer ones"));
    auto given_up = kj::newPromiseAndFulfiller<kj::Own<kj::AsyncIoStream>>();
    const uint64_t number = handshakes_begun_++;
    shaking_[number] = kj::mv(given_up.fulfiller);
    auto secured = timer_.timeoutAfter(kHandshakePatience, tls_->accept(kj::mv(stream)));
    return secured.exclusiveJoin(kj::mv(given_up.promise))
        .attach(kj::defer([this, number] { shaking_.erase(number); }))
        .then([this](kj::Own<kj::AsyncIoStream> inner) { connections_.add(kj::mv(inner)); });
  }
  void taskFailed(kj::Exception&&) override {}  // a client's handshake, and that is all

  kj::ConnectionReceiver& receiver_;
  kj::Timer& timer_;
  Connections& connections_;
  Tls* const tls_;
  uint64_t handshakes_begun_ = 0;
  std::map<uint64_t, kj::Own<kj::PromiseFulfiller<kj::Own<kj::AsyncIoStream>>>> shaking_;
  kj::TaskSet handshakes_;
};

// The first request to end drains, a second one cuts off what still runs.
kj::Promise<void> obey(kj::AsyncInputStream& stop, Dispatcher& dispatcher, kj::Duration grace) {
  auto buffer = kj::heapArray<uint64_t>(1);
  auto read = stop.read(buffer.begin(), sizeof(uint64_t));
  return read.attach(kj::mv(buffer)).then([&stop, &dispatcher, grace] {
    dispatcher.drain(grace);
    return obey(stop, dispatcher, 0 * kj::SECONDS);
  });
}

}  // namespace

// The talking thread and what it shares with the computing one.
class Server::Loop {
 public:
  struct Model {
    const ModelText& text;
    const ModelInfo& info;
    ServerLimits limits;
    int stop_fd;
  };

  explicit Loop(const ServerOptions& options)
      : options_(options), tls_(options.tls.any() ? std::make_unique<Tls>(options.tls) : nullptr) {
    check_address(options.listen);
    std::promise<std::string> bound;
    thread_ = std::thread([this, &bound] { run(bound); });
    try {
      address_ = bound.get_future().get();
    } catch (...) {
      thread_.join();
      throw;
    }
  }
  ~Loop() { end(); }

  const std::string& address() const { return address_; }
  const ServerOptions& options() const { return options_; }
  // Accepts clients from now on, until drained; then orders the engine to leave.
  void open(const Model& model) { open_->fulfill(&model); }
  // Ends the thread, whatever it is doing.
  void end() {
    if (!thread_.joinable()) return;
    quit_->fulfill();
    thread_.join();
  }
  // Valid after that: why it ended early; empty where it did not.
  const std::string& failure() const { return failure_; }

  Orders orders;
  Reports reports;

 private:
  void run(std::promise<std::string>& bound);
  void live(std::promise<std::string>& bound);
  void talk(kj::AsyncIoContext& io, kj::ConnectionReceiver& receiver, const Model& model, kj::Promise<void> quit);

  const ServerOptions options_;
  const std::unique_ptr<Tls> tls_;
  std::string address_, failure_;
  kj::Own<kj::CrossThreadPromiseFulfiller<const Model*>> open_;
  kj::Own<kj::CrossThreadPromiseFulfiller<void>> quit_;
  std::thread thread_;
};

void Server::Loop::run(std::promise<std::string>& bound) {
  try {
    live(bound);
  } catch (const kj::Exception& exception) {  // no file descriptor is left for an event loop
    bound.set_exception(std::make_exception_ptr(Error(ErrorKind::failed, exception.getDescription().cStr())));
  }
}

void Server::Loop::live(std::promise<std::string>& bound) {
  auto io = kj::setupAsyncIo();
  auto open = kj::newPromiseAndCrossThreadFulfiller<const Model*>();
  auto quit = kj::newPromiseAndCrossThreadFulfiller<void>();
  open_ = kj::mv(open.fulfiller);
  quit_ = kj::mv(quit.fulfiller);
  const std::string asked = with_default_port(options_.listen);
  kj::Own<kj::ConnectionReceiver> receiver;
  try {
    remove_stale_socket(asked);
    receiver = io.provider->getNetwork().parseAddress(asked.c_str()).wait(io.waitScope)->listen();
    bound.set_value(with_port(asked, receiver->getPort()));
  } catch (const kj::Exception& exception) {
    const std::string why = concat("cannot listen on '", asked, "': ", exception.getDescription().cStr());
    bound.set_exception(std::make_exception_ptr(Error(ErrorKind::invalid, why)));
    return;
  }
  auto left = quit.promise.fork();
  auto nothing = left.addBranch().then([]() -> const Model* { return nullptr; });
  if (const Model* model = open.promise.exclusiveJoin(kj::mv(nothing)).wait(io.waitScope)) {
    try {
      talk(io, *receiver, *model, left.addBranch());
    } catch (const kj::Exception& exception) {
      failure_ = exception.getDescription().cStr();
    }
    orders.put(Leave{});
  }
  remove_socket(asked);
}

void Server::Loop::talk(kj::AsyncIoContext& io, kj::ConnectionReceiver& receiver, const Model& model,
                        kj::Promise<void> quit) {
  kj::Timer& timer = io.provider->getTimer();
  Dispatcher dispatcher(timer, orders, reports, model.limits, model.text.tokenizer);
  const kj::Duration grace = duration(options_.grace);
  Service service{timer,      dispatcher, {model.text, model.limits, model.info.blueprint.max_positions},
                  model.info, grace,      timer.now()};
  Connections connections(service);
  Door door(receiver, timer, connections, tls_.get());
  auto stop = io.lowLevelProvider->wrapInputFd(model.stop_fd);
  dispatcher.drained()
      .then([&](uint32_t) { return connections.flush(kFlushPatience); })
      .exclusiveJoin(dispatcher.run())
      .exclusiveJoin(door.accept())
      .exclusiveJoin(obey(*stop, dispatcher, grace))
      .exclusiveJoin(kj::mv(quit))
      .wait(io.waitScope);
}

Server::Server(const ServerOptions& options) : loop_(std::make_unique<Loop>(options)) {}
Server::~Server() = default;

const std::string& Server::address() const { return loop_->address(); }

void Server::serve(Scheduler& scheduler, const ModelText& text, const ModelInfo& model, int stop_fd) {
  Loop::Model opened{text, model, loop_->options().limits, stop_fd};
  opened.limits.complete(model.blueprint.max_positions, scheduler.pages() * kPageTokens);
  {
    loop_->open(opened);
    const auto ended = kj::defer([this] { loop_->end(); });
    work_for(loop_->orders, loop_->reports, scheduler, loop_->options().beat);
  }
  PLEAT_ASSERT(loop_->failure().empty(), loop_->failure());
}

}  // namespace pleat
