#include "cluster/engine_service.h"

#include <capnp/message.h>

#include <exception>
#include <memory>
#include <optional>

namespace pleat {
namespace {

constexpr size_t kShort = 32 * 1024;  // bytes of a message that becomes tokens in some milliseconds

kj::Duration milliseconds(uint32_t count) { return int64_t(count) * kj::MILLISECONDS; }

const Refusal* refusal_of(const Outcome& outcome) { return std::get_if<Refusal>(&outcome); }

}  // namespace

capnp::Capability::Server::DispatchCallResult EngineService::dispatchCall(
    uint64_t interface_id, uint16_t method_id, capnp::CallContext<capnp::AnyPointer, capnp::AnyPointer> context) {
  auto call = on_call_();
  DispatchCallResult result = rpc::Engine::Server::dispatchCall(interface_id, method_id, context);
  return {result.promise.attach(kj::mv(call)), result.isStreaming};
}

template <class Context, class Work>
kj::Promise<void> EngineService::answer(Context& context, Work&& work) {
  const auto refuse = [&](const Refusal& refusal) {
    if (refusal.kind() != ErrorKind::overloaded) service_.dispatcher.count_refused();
    refusal.write(context.getResults().initResult().initError());
    return kj::Promise<void>(kj::READY_NOW);
  };
  try {
    return work();
  } catch (const Refusal& refusal) {
    return refuse(refusal);
  } catch (const Error& error) {
    return refuse(Refusal(error));
  }
}

template <class Context, class Message, class Read, class Work>
kj::Promise<void> EngineService::answer_read(Context context, Message message, Read read, Work work) {
  const ModelTerms& terms = service_.terms;
  if (message.totalSize().wordCount * sizeof(capnp::word) <= kShort)
    return answer(context, [&] { return work(read(message, terms)); });
  using Value = decltype(read(message, terms));
  struct Reading {
    explicit Reading(Message message) : copy(capnp::clone(message)) {}
    const kj::Own<Message> copy;
    std::optional<Value> value;
    std::exception_ptr fault;
  };
  return answer(context, [&] {
    service_.dispatcher.require_open(*client_);
    const auto reading = std::make_shared<Reading>(message);
    auto done = service_.reader.run([reading, read, terms] {
      try {
        reading->value = read(*reading->copy, terms);
      } catch (...) {
        reading->fault = std::current_exception();
      }
    });
    return done.attach(service_.dispatcher.reading(client_)).then([this, context, reading, work]() mutable {
      return answer(context, [&] {
        if (reading->fault) std::rethrow_exception(reading->fault);
        return work(std::move(*reading->value));
      });
    });
  });
}

kj::Promise<void> EngineService::generate(GenerateContext context) {
  context.allowCancellation();
  const auto start = [this, context](Request request) mutable {
    auto params = context.getParams();
    kj::Maybe<rpc::Sink::Client> sink;
    if (params.hasSink()) sink = params.getSink();
    const bool streamed = sink != nullptr;
    const kj::Duration deadline = milliseconds(params.getRequest().getDeadlineMs());
    return service_.dispatcher.start(std::move(request), client_, kj::mv(sink), deadline)
        .then([this, context, streamed](Outcome outcome) mutable {
          auto result = context.getResults().initResult();
          if (const Refusal* refusal = refusal_of(outcome)) return refusal->write(result.initError());
          write_completion(std::get<Completion>(outcome), streamed, service_.terms.text.tokenizer, result.initOk());
        });
  };
  return answer(context, [&] {
    service_.dispatcher.require_open(*client_);
    return answer_read(context, context.getParams().getRequest(), read_request, start);
  });
}

kj::Promise<void> EngineService::score(ScoreContext context) {
  context.allowCancellation();
  const auto start = [this, context](std::vector<Request> requests) mutable {
    service_.dispatcher.require_room(requests, *client_);
    const kj::Duration deadline = milliseconds(context.getParams().getRequest().getDeadlineMs());
    kj::Vector<kj::Promise<Outcome>> outcomes;
    for (Request& one : requests) outcomes.add(service_.dispatcher.start(std::move(one), client_, nullptr, deadline));
    return kj::joinPromises(outcomes.releaseAsArray()).then([context](kj::Array<Outcome> all) mutable {
      auto result = context.getResults().initResult();
      for (const Outcome& outcome : all)
        if (const Refusal* refusal = refusal_of(outcome)) return refusal->write(result.initError());
      auto scores = result.initOk().initContinuations(uint32_t(all.size()));
      for (uint32_t i = 0; i < scores.size(); ++i) write_score(std::get<Completion>(all[i]), scores[i]);
    });
  };
  return answer_read(context, context.getParams().getRequest(), read_requests, start);
}

kj::Promise<void> EngineService::tokenize(TokenizeContext context) {
  const auto read = [](rpc::Prompt::Reader prompt, const ModelTerms& terms) { return read_prompt(prompt, terms); };
  const auto write = [context](const std::vector<int32_t>& tokens) mutable -> kj::Promise<void> {
    write_tokens(tokens, context.getResults().initResult().initOk().initTokens(uint32_t(tokens.size())));
    return kj::READY_NOW;
  };
  return answer_read(context, context.getParams().getPrompt(), read, write);
}

kj::Promise<void> EngineService::detokenize(DetokenizeContext context) {
  return answer(context, [&]() -> kj::Promise<void> {
    const Tokenizer& tokenizer = service_.terms.text.tokenizer;
    StreamingDecoder decoder(tokenizer);
    std::string text;
    for (const int32_t token : read_tokens(context.getParams().getTokens(), service_.terms)) {
      PLEAT_REQUIRE(token >= 0 && token < tokenizer.vocab_size(), "there is no token ", token);
      text += decoder.push(token);
    }
    text += decoder.flush();
    context.getResults().initResult().setOk(kj::StringPtr(text.c_str(), text.size()));
    return kj::READY_NOW;
  });
}

kj::Promise<void> EngineService::info(InfoContext context) {
  auto info = context.getResults().initInfo();
  service_.model.write(info);
  service_.terms.limits.write(info.initLimits());
  return kj::READY_NOW;
}

kj::Promise<void> EngineService::stats(StatsContext context) {
  auto stats = context.getResults().initStats();
  service_.dispatcher.write(stats);
  stats.setUptimeMs(uint64_t((service_.timer.now() - service_.start) / kj::MILLISECONDS));
  stats.setConnections(service_.connections);
  return kj::READY_NOW;
}

kj::Promise<void> EngineService::drain(DrainContext context) {
  const uint32_t grace = context.getParams().getGraceMs();
  service_.dispatcher.drain(grace > 0 ? milliseconds(grace) : service_.grace);
  return service_.dispatcher.drained().then(
      [context](uint32_t cut_off) mutable { context.getResults().setCutOff(cut_off); });
}

}  // namespace pleat
