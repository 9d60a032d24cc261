#include "cluster/client.h"

#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>

#include "cluster/address.h"
#include "cluster/connect.h"
#include "cluster/refusal.h"
#include "cluster/to_json.h"

namespace pleat {
namespace {

Growth growth_of(rpc::Piece::Reader piece) {
  Growth growth;
  growth.tokens = values_of(piece.getTokens());
  growth.text.assign(piece.getText().begin(), piece.getText().end());
  growth.logprobs = read_logprobs(piece.getLogprobs());
  return growth;
}

// What came of one request. The connection may keep the sink longer than the caller waits.
struct Received {
  std::function<void(const Growth&)> piece;  // empty once nobody waits
  Growth all;
};

class ReceivingSink final : public rpc::Sink::Server {
 public:
  explicit ReceivingSink(std::shared_ptr<Received> received) : received_(std::move(received)) {}

 private:
  kj::Promise<void> push(PushContext context) override {
    Growth growth = growth_of(context.getParams().getPiece());
    if (received_->piece) received_->piece(growth);
    received_->all.add(std::move(growth));
    return kj::READY_NOW;
  }
  kj::Promise<void> done(DoneContext) override { return kj::READY_NOW; }

  std::shared_ptr<Received> received_;
};

// What the RPC system itself throws; a lost connection looks the same whichever call meets it.
template <class Call>
auto with_errors(const std::string& address, const Tls* tls, Call&& call) {
  try {
    return call();
  } catch (const kj::Exception& exception) {
    const bool lost = exception.getType() == kj::Exception::Type::DISCONNECTED;
    const std::string said = exception.getDescription().cStr();
    // Behind a ';' kj has values of its own; where they come from TLS they are the reason.
    throw Error(lost ? ErrorKind::disconnected : ErrorKind::failed,
                concat("'", address, "': ", tls ? said : said.substr(0, said.find(';'))));
  }
}

}  // namespace

struct Client::State {
  std::string address;
  kj::AsyncIoContext io;
  std::unique_ptr<Tls> tls;
  kj::Own<kj::AsyncIoStream> stream;
  capnp::TwoPartyClient rpc;
  rpc::Engine::Client engine;

  State(const std::string& address_, const TlsFiles& files)
      : address(with_default_port(address_)),
        io(kj::setupAsyncIo()),
        tls(files.any() ? std::make_unique<Tls>(files) : nullptr),
        stream(
            with_errors(address, tls.get(),
                        [&] { return connect_to(io.provider->getNetwork(), address, tls.get()).wait(io.waitScope); })),
        rpc(*stream),
        engine(rpc.bootstrap().castAs<rpc::Engine>()) {}

  template <class Request>
  auto wait_for(Request request) {
    return with_errors(address, tls.get(), [&] { return request.send().wait(io.waitScope); });
  }
};

Client::Client(const std::string& address, const TlsFiles& tls) : state_(std::make_unique<State>(address, tls)) {}
Client::~Client() = default;

Completion Client::generate(const std::function<void(rpc::GenerateRequest::Builder)>& fill,
                            const std::function<void(const Growth&)>& piece) {
  const auto received = std::make_shared<Received>(Received{piece, {}});
  const auto over = kj::defer([&] { received->piece = nullptr; });
  auto request = state_->engine.generateRequest();
  fill(request.initRequest());
  request.setSink(kj::heap<ReceivingSink>(received));
  auto response = state_->wait_for(std::move(request));
  const auto result = response.getResult();
  if (result.isError()) throw Refusal(result.getError());
  Completion completion = read_completion(result.getOk());
  completion.tokens = std::move(received->all.tokens);
  completion.text = std::move(received->all.text);
  completion.logprobs = std::move(received->all.logprobs);
  return completion;
}

nlohmann::ordered_json Client::info() { return to_json(state_->wait_for(state_->engine.infoRequest()).getInfo()); }

nlohmann::ordered_json Client::stats() { return to_json(state_->wait_for(state_->engine.statsRequest()).getStats()); }

uint32_t Client::drain(std::chrono::milliseconds grace) {
  auto request = state_->engine.drainRequest();
  request.setGraceMs(uint32_t(grace.count()));
  return state_->wait_for(std::move(request)).getCutOff();
}

}  // namespace pleat
