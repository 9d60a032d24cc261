#pragma once
// The schema's Engine, for one connection.
#include <kj/function.h>

#include "cluster/dispatcher.h"
#include "cluster/messages.h"
#include "cluster/model_info.h"
#include "cluster/work_thread.h"

namespace pleat {

// What all connections of a server share.
struct Service {
  kj::Timer& timer;
  Dispatcher& dispatcher;
  ModelTerms terms;
  const ModelInfo& model;
  kj::Duration grace;
  kj::TimePoint start;
  uint32_t connections = 0;
  WorkThread reader{};  // of long messages
};

class EngineService final : public rpc::Engine::Server {
 public:
  // on_call: before each call; what it returns lives until the call's end.
  EngineService(Service& service, kj::Function<kj::Own<void>()> on_call)
      : service_(service), on_call_(kj::mv(on_call)) {}

 private:
  DispatchCallResult dispatchCall(uint64_t interface_id, uint16_t method_id,
                                  capnp::CallContext<capnp::AnyPointer, capnp::AnyPointer> context) override;
  kj::Promise<void> generate(GenerateContext context) override;
  kj::Promise<void> score(ScoreContext context) override;
  kj::Promise<void> tokenize(TokenizeContext context) override;
  kj::Promise<void> detokenize(DetokenizeContext context) override;
  kj::Promise<void> info(InfoContext context) override;
  kj::Promise<void> stats(StatsContext context) override;
  kj::Promise<void> drain(DrainContext context) override;

  // Runs `work`; an Error it throws becomes the call's result.
  template <class Context, class Work>
  kj::Promise<void> answer(Context& context, Work&& work);
  // What `read` makes of a message, then `work` with it; a long one, whose text is a while in becoming tokens, is read
  // beside the event loop.
  template <class Context, class Message, class Read, class Work>
  kj::Promise<void> answer_read(Context context, Message message, Read read, Work work);

  Service& service_;
  kj::Function<kj::Own<void>()> on_call_;
  const std::shared_ptr<Dispatcher::Client> client_ = std::make_shared<Dispatcher::Client>();
};

}  // namespace pleat
