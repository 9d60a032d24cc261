#include "cluster/http/router_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cstdio>
#include <cstring>

#include "cluster/address.h"
#include "cluster/connect.h"
#include "cluster/http/http_connections.h"
#include "cluster/router/address_file.h"
#include "cluster/router/waiting.h"

namespace pleat {
namespace {

constexpr auto kAcceptPause = 100 * kj::MILLISECONDS;
constexpr auto kHandshake = 10 * kj::SECONDS;
constexpr auto kLookAgain = 1 * kj::SECONDS;  // at the files of replicas, keys and certificates
constexpr auto kDrainTurn = 20 * kj::MILLISECONDS;

// Without the port; of IPv6 the network of 64 bits, which is as much as one host has.
std::string peer_of(kj::AsyncIoStream& stream) {
  sockaddr_storage address = {};
  uint length = sizeof address;
  stream.getpeername(reinterpret_cast<sockaddr*>(&address), &length);
  char text[INET6_ADDRSTRLEN] = {};
  if (address.ss_family == AF_INET)
    inet_ntop(AF_INET, &reinterpret_cast<sockaddr_in*>(&address)->sin_addr, text, sizeof text);
  if (address.ss_family == AF_INET6) {
    in6_addr& from = reinterpret_cast<sockaddr_in6*>(&address)->sin6_addr;
    if (!IN6_IS_ADDR_V4MAPPED(&from)) std::memset(&from.s6_addr[8], 0, 8);
    inet_ntop(AF_INET6, &from, text, sizeof text);
  }
  return text[0] ? text : HttpConnections::kLocal;
}

std::shared_ptr<Tls> tls_of(const TlsFiles& files) {
  if (!files.any()) return nullptr;
  return std::make_shared<Tls>(files);
}

ApiKeys keys_of(const std::string& file) { return file.empty() ? ApiKeys() : ApiKeys::read(file); }

// Browsers reach a unix socket only through a proxy.
bool is_at_loopback(kj::ConnectionReceiver& receiver) {
  sockaddr_storage address = {};
  uint length = sizeof address;
  receiver.getsockname(reinterpret_cast<sockaddr*>(&address), &length);
  const auto& v6 = reinterpret_cast<sockaddr_in6*>(&address)->sin6_addr;
  if (address.ss_family == AF_INET6)
    return IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
  return address.ss_family == AF_INET && ntohl(reinterpret_cast<sockaddr_in*>(&address)->sin_addr.s_addr) >> 24 == 127;
}

Connect over_sockets(kj::Network& network, Tls* tls) {
  return [&network, tls](const std::string& address) { return connect_to(network, address, tls); };
}

}  // namespace

struct RouterServer::State {
  explicit State(const RouterServerOptions& options_)
      : options(options_),
        io(kj::setupAsyncIo()),
        timer(io.provider->getTimer()),
        http_tls(tls_of(options.http_tls)),
        rpc_tls(tls_of(options.rpc_tls)),
        replicas(timer, over_sockets(io.provider->getNetwork(), rpc_tls.get()), options.router),
        gateway(timer, replicas, options.router, options.limits, keys_of(options.api_keys)),
        file(options.replica_file),
        keys_file({options.api_keys}),
        http_tls_files({options.http_tls.certificate, options.http_tls.key, options.http_tls.authorities}),
        connections(gateway) {}

  void listen() {
    const std::string asked = with_default_port(options.http, kHttpPort);
    try {
      remove_stale_socket(asked);
      receiver = io.provider->getNetwork().parseAddress(asked.c_str()).wait(io.waitScope)->listen();
      address = with_port(asked, receiver->getPort());
      gateway.names = HostNames(options.hosts, is_at_loopback(*receiver));
    } catch (const kj::Exception& exception) {
      throw Error(ErrorKind::invalid, concat("cannot listen on '", asked, "': ", exception.getDescription().cStr()));
    }
  }

  // For ever.
  kj::Promise<void> accept() {
    return receiver->accept()
        .then([this](kj::Own<kj::AsyncIoStream> stream) {
          try {
            take(kj::mv(stream));
          } catch (const kj::Exception&) {
            // It has been reset already, and has no peer.
          }
        })
        .catch_([this](kj::Exception&&) { return timer.afterDelay(kAcceptPause); })  // no file descriptor is left
        .then([this] { return accept(); });
  }
  void take(kj::Own<kj::AsyncIoStream> stream) {
    const std::string client = peer_of(*stream);
    if (connections.full(client)) return;
    if (!http_tls) return connections.add(kj::mv(stream), client);
    auto secured = within(timer, kHandshake, http_tls->accept(kj::mv(stream)), "the handshake took too long");
    connections.add(secured.attach(kj::heap(http_tls)), client);
  }

  // The files of replicas, keys and certificates, for ever; a bad one changes nothing.
  kj::Promise<void> watch_files() {
    return timer.afterDelay(kLookAgain).then([this] {
      look_again("the replicas stay", [this] {
        if (options.replica_file.empty()) return;
        if (const auto addresses = file.changed()) replicas.set(*addresses);
      });
      look_again("the keys stay", [this] {
        if (keys_file.changed()) gateway.set_keys(keys_of(options.api_keys));
      });
      look_again("the certificates stay", [this] {
        if (http_tls_files.changed()) http_tls = tls_of(options.http_tls);
      });
      return watch_files();
    });
  }
  template <class Look>
  void look_again(const char* otherwise, Look look) {
    try {
      look();
    } catch (const Error& error) {
      std::fprintf(stderr, "pleat: %s; %s as they were\n", error.what(), otherwise);
    }
  }
  // Says once when a replica comes or goes, for ever.
  kj::Promise<void> report() {
    for (const auto& replica : replicas.all()) {
      const std::string now = replica->trouble();
      std::string& said = troubles.try_emplace(replica->address(), "not connected yet").first->second;
      if (now == said) continue;
      said = now;
      std::fprintf(stderr, "replica %s: %s\n", replica->address().c_str(), now.empty() ? "ready" : now.c_str());
    }
    return timer.afterDelay(kLookAgain / 5).then([this] { return report(); });
  }

  kj::Promise<void> asked(kj::AsyncInputStream& stop) {
    auto buffer = kj::heapArray<uint64_t>(1);
    auto read = stop.read(buffer.begin(), sizeof(uint64_t));
    return read.attach(kj::mv(buffer));
  }
  kj::Promise<void> until_idle() {
    if (gateway.idle()) return timer.afterDelay(kDrainTurn);  // the last bytes of answers
    return timer.afterDelay(kDrainTurn).then([this] { return until_idle(); });
  }
  // Ready when it shall end and has nothing left, or is told again.
  kj::Promise<void> drained(kj::AsyncInputStream& stop) {
    return asked(stop).then([this, &stop] {
      gateway.drain();
      const kj::Duration grace = int64_t(options.grace.count()) * kj::MILLISECONDS;
      return until_idle().exclusiveJoin(timer.afterDelay(grace)).exclusiveJoin(asked(stop));
    });
  }

  const RouterServerOptions options;
  kj::AsyncIoContext io;
  kj::Timer& timer;
  std::shared_ptr<Tls> http_tls, rpc_tls;
  ReplicaSet replicas;
  Gateway gateway;
  AddressFile file;
  FileWatch keys_file, http_tls_files;
  std::map<std::string, std::string> troubles;  // that were said, by address
  kj::Own<kj::ConnectionReceiver> receiver;
  std::string address;
  HttpConnections connections;
};

RouterServer::RouterServer(const RouterServerOptions& options) : state_(std::make_unique<State>(options)) {
  if (!options.files.empty()) state_->gateway.keep_files(options.files);
  state_->listen();
  if (options.replica_file.empty())
    state_->replicas.set(options.replicas);
  else
    state_->replicas.set(*state_->file.changed());
}

RouterServer::~RouterServer() { remove_socket(state_->address); }

const std::string& RouterServer::address() const { return state_->address; }

void RouterServer::serve(int stop_fd) {
  State& s = *state_;
  auto stop = s.io.lowLevelProvider->wrapInputFd(stop_fd);
  auto ended = s.drained(*stop).exclusiveJoin(s.accept()).exclusiveJoin(s.watch_files());
  if (!s.options.quiet) ended = ended.exclusiveJoin(s.report());
  ended.wait(s.io.waitScope);
}

}  // namespace pleat
