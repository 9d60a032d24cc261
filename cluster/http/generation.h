#pragma once
// One request for texts over HTTP: as many sessions as it has texts, and what they write as one answer or as events.
#include <optional>
#include <vector>

#include "cluster/http/event_text.h"
#include "cluster/http/gateway.h"

namespace pleat {

class Generation {
 public:
  Generation(Gateway& gateway, OpenAiRequest request, kj::HttpService::Response& response);
  ~Generation() noexcept(false);
  KJ_DISALLOW_COPY(Generation);

  // Ready when the answer has been written; once. Dropping the promise ends the texts.
  kj::Promise<void> run();

 private:
  struct Choice;
  kj::Own<Session> session(Choice& choice);
  kj::Promise<void> write(Choice& choice);
  kj::Promise<void> wait_for_room(Choice& choice);
  // Of a text that found no room: another one of the request is under way, and will leave its own.
  bool may_wait(const Choice& choice, const Routed& routed) const;
  kj::Promise<void> take(Choice& choice, rpc::Piece::Reader piece);
  void measure(Choice& choice, size_t tokens);
  void count(const Choice& choice, const Routed& routed);
  void end(Choice& choice, Routed routed);
  kj::Promise<void> finish();
  kj::Promise<void> refuse(const Refusal& refusal);

  // The parts of an answer, as JSON.
  nlohmann::ordered_json usage() const;
  std::string logprobs(Choice& choice, const std::vector<ShownToken>& tokens);
  std::string whole() const;

  void open();
  kj::Promise<void> send(std::string event);

  Gateway& gateway_;
  const OpenAiRequest request_;
  kj::HttpService::Response& response_;
  const kj::TimePoint start_;
  const std::string id_, model_;
  const int64_t created_;  // seconds since 1970
  const EventText events_;
  std::vector<kj::Own<Choice>> choices_;
  std::vector<kj::Own<kj::PromiseFulfiller<void>>> waiting_;  // texts without room, until another one ends
  kj::Own<kj::AsyncOutputStream> out_;                        // null until the first event
  kj::ForkedPromise<void> writing_;
  kj::Own<kj::PromiseFulfiller<void>> refused_;
  std::optional<Refusal> refusal_;  // the first one
};

}  // namespace pleat
