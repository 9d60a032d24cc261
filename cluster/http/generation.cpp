#include "cluster/http/generation.h"

#include <algorithm>
#include <ctime>
#include <utility>

#include <nlohmann/json.hpp>

#include "cluster/messages.h"

namespace pleat {
namespace {

using nlohmann::ordered_json;

std::string bytes_of(rpc::Logprob::Reader token) {
  const auto bytes = token.getBytes();
  return {reinterpret_cast<const char*>(bytes.begin()), bytes.size()};
}

std::vector<ShownToken> shown(capnp::List<rpc::Logprob>::Reader tokens) {
  std::vector<ShownToken> all;
  for (const auto in : tokens) {
    ShownToken& token = all.emplace_back(ShownToken{bytes_of(in), in.getLogprob(), {}});
    for (const auto best : in.getBest()) token.best.emplace_back(bytes_of(best), best.getLogprob());
  }
  return all;
}

const char* name_of(rpc::FinishReason reason) { return reason == rpc::FinishReason::STOP ? "stop" : "length"; }

}  // namespace

struct Generation::Choice {
  int index = 0;
  std::string text;
  std::vector<ShownToken> tokens;  // with log probabilities, where asked for
  int64_t offset = 0;              // characters of the tokens that were sent
  bool begun = false;
  bool under_way = true;  // it has not ended or failed, and does not wait for room
  kj::TimePoint first = kj::origin<kj::TimePoint>(), last = first;  // token
  std::optional<Routed> end;
  kj::Own<Session> session;
};

Generation::Generation(Gateway& gateway, OpenAiRequest request, kj::HttpService::Response& response)
    : gateway_(gateway),
      request_(std::move(request)),
      response_(response),
      start_(gateway.timer.now()),
      id_(new_id(request_.chat ? "chatcmpl-" : "cmpl-")),
      model_(gateway.replicas.facts() ? gateway.replicas.facts()->model : request_.model),
      created_(std::time(nullptr)),
      events_(request_.chat, request_.include_usage, id_, created_, model_),
      writing_(kj::Promise<void>(kj::READY_NOW).fork()) {
  for (int i = 0; i < request_.choices(); ++i) {
    auto choice = kj::heap<Choice>();
    choice->index = i;
    choice->session = session(*choice);
    choices_.push_back(kj::mv(choice));
  }
  gateway_.metrics.texts += request_.choices();
}

kj::Own<Session> Generation::session(Choice& choice) {
  capnp::MallocMessageBuilder message;
  auto out = message.initRoot<rpc::GenerateRequest>();
  SamplingOptions sampling = request_.sampling;
  sampling.seed += uint64_t(choice.index % request_.n);
  write_sampling(sampling, out.initSampling());
  write_prompt(request_.prompts[size_t(choice.index / request_.n)], out.initPrompt());
  out.setPriority(int16_t(request_.priority));
  return kj::heap<Session>(gateway_.timer, gateway_.replicas, gateway_.router, out,
                           [this, &choice](rpc::Piece::Reader piece) { return take(choice, piece); });
}

Generation::~Generation() noexcept(false) {
  gateway_.metrics.texts -= request_.choices();
  for (const auto& choice : choices_) {
    gateway_.metrics.moves += uint64_t(choice->session->moves());
    if (!choice->end) ++gateway_.metrics.ends["abort"];
  }
}

kj::Promise<void> Generation::run() {
  auto refused = kj::newPromiseAndFulfiller<void>();
  refused_ = kj::mv(refused.fulfiller);
  kj::Vector<kj::Promise<void>> texts;
  for (auto& choice : choices_) texts.add(write(*choice));
  auto over = kj::joinPromises(texts.releaseAsArray()).exclusiveJoin(kj::mv(refused.promise));
  return over.then([this]() -> kj::Promise<void> {
    if (refusal_) return refuse(*refusal_);
    return finish();
  });
}

kj::Promise<void> Generation::write(Choice& choice) {
  return choice.session->run().then(
      [this, &choice](Routed routed) -> kj::Promise<void> {
        choice.under_way = false;
        if (may_wait(choice, routed)) return wait_for_room(choice);
        end(choice, std::move(routed));
        return kj::READY_NOW;
      },
      [this, &choice](kj::Exception&& exception) -> kj::Promise<void> {
        choice.under_way = false;
        for (auto& waiting : std::exchange(waiting_, {})) waiting->reject(kj::cp(exception));
        return kj::mv(exception);
      });
}

kj::Promise<void> Generation::wait_for_room(Choice& choice) {
  auto room = kj::newPromiseAndFulfiller<void>();
  waiting_.push_back(kj::mv(room.fulfiller));
  return room.promise.then([this, &choice] {
    choice.under_way = true;
    gateway_.metrics.moves += uint64_t(choice.session->moves());
    choice.session = session(choice);
    return write(choice);
  });
}

bool Generation::may_wait(const Choice& choice, const Routed& routed) const {
  if (!routed.refusal || routed.refusal->code() != rpc::Error::Code::QUEUE_FULL || choice.begun) return false;
  return std::any_of(choices_.begin(), choices_.end(), [](const auto& other) { return other->under_way; });
}

kj::Promise<void> Generation::take(Choice& choice, rpc::Piece::Reader piece) {
  measure(choice, piece.getTokens().size());
  const std::string text(piece.getText().begin(), piece.getText().end());
  std::vector<ShownToken> tokens = shown(piece.getLogprobs());
  if (request_.stream) {
    open();
    if (text.empty() && tokens.empty()) return kj::READY_NOW;
    return send(events_.grown(choice.index, text, logprobs(choice, tokens)));
  }
  choice.text += text;
  choice.tokens.insert(choice.tokens.end(), std::make_move_iterator(tokens.begin()),
                       std::make_move_iterator(tokens.end()));
  return kj::READY_NOW;
}

void Generation::measure(Choice& choice, size_t tokens) {
  const kj::TimePoint now = gateway_.timer.now();
  gateway_.metrics.generated_tokens += tokens;
  if (!std::exchange(choice.begun, true)) {
    gateway_.metrics.first_token.add(now - start_);
    choice.first = choice.last = now;
    --tokens;
  }
  for (size_t i = 0; i < tokens; ++i) gateway_.metrics.between_tokens.add((now - choice.last) / int64_t(tokens));
  choice.last = now;
}

void Generation::count(const Choice& choice, const Routed& routed) {
  Metrics& metrics = gateway_.metrics;
  metrics.whole_text.add(gateway_.timer.now() - start_);
  if (routed.completion_tokens > 1)
    metrics.each_token.add((choice.last - choice.first) / int64_t(routed.completion_tokens - 1));
  metrics.prompt_size.add(routed.prompt_tokens);
  metrics.text_size.add(routed.completion_tokens);
  metrics.max_tokens.add(request_.sampling.max_tokens);
  metrics.prompt_tokens += routed.prompt_tokens;
  ++metrics.ends[name_of(routed.reason)];
}

void Generation::end(Choice& choice, Routed routed) {
  if (routed.refusal) {
    if (!refusal_) refusal_ = routed.refusal;
    refused_->fulfill();
  } else {
    count(choice, routed);
    for (auto& waiting : std::exchange(waiting_, {})) waiting->fulfill();
  }
  choice.end = std::move(routed);
  if (!request_.stream || choice.end->refusal) return;
  open();
  send(events_.ended(choice.index, name_of(choice.end->reason)));
}

kj::Promise<void> Generation::finish() {
  for (size_t prompt = 0; prompt < request_.prompts.size(); ++prompt) gateway_.metrics.texts_asked_for.add(request_.n);
  if (!request_.stream) {
    ++gateway_.metrics.responses[200];
    return reply(response_, *gateway_.headers, 200, "application/json", whole());
  }
  return send((request_.include_usage ? events_.used(dump(usage())) : "") + "data: [DONE]\n\n");
}

kj::Promise<void> Generation::refuse(const Refusal& refusal) {
  const HttpError error = http_error(refusal);
  if (out_.get()) return send(concat("data: ", error.body(), "\n\n"));
  ++gateway_.metrics.responses[error.status];
  return reply(response_, *gateway_.headers, error);
}

// Each prompt counts once, however many texts it has.
ordered_json Generation::usage() const {
  int64_t prompt = 0, completion = 0;
  for (const auto& choice : choices_) {
    if (choice->index % request_.n == 0) prompt += choice->end->prompt_tokens;
    completion += choice->end->completion_tokens;
  }
  return usage_json(prompt, completion);
}

// Of the tokens that a text grew by.
std::string Generation::logprobs(Choice& choice, const std::vector<ShownToken>& tokens) {
  if (tokens.empty()) return "null";
  const int64_t offset = choice.offset;
  for (const ShownToken& token : tokens) choice.offset += characters(token.bytes);
  return dump(logprobs_json(request_.chat, tokens, offset));
}

std::string Generation::whole() const {
  ordered_json answer = {{"id", id_},
                         {"object", request_.chat ? "chat.completion" : "text_completion"},
                         {"created", created_},
                         {"model", model_},
                         {"choices", ordered_json::array()}};
  for (const auto& choice : choices_) {
    ordered_json one = {{"index", choice->index}};
    if (request_.chat)
      one["message"] = {{"role", "assistant"}, {"content", choice->text}};
    else
      one["text"] = choice->text;
    one["logprobs"] = logprobs_json(request_.chat, choice->tokens, 0);
    one["finish_reason"] = name_of(choice->end->reason);
    answer["choices"].push_back(std::move(one));
  }
  answer["usage"] = usage();
  return dump(answer);
}

void Generation::open() {
  if (out_.get()) return;
  ++gateway_.metrics.responses[200];
  kj::HttpHeaders headers(*gateway_.headers);
  headers.add("Content-Type", "text/event-stream; charset=utf-8");
  headers.add("Cache-Control", "no-store");
  headers.add("X-Accel-Buffering", "no");  // or nginx in front collects the events
  out_ = response_.send(200, status_text(200), headers);
  if (!request_.chat) return;
  for (const auto& choice : choices_) send(events_.opened(choice->index));
}

// After what is being written; ready when it is.
kj::Promise<void> Generation::send(std::string event) {
  auto held = kj::heap<std::string>(std::move(event));
  writing_ = writing_.addBranch()
                 .then([this, held = kj::mv(held)]() mutable {
                   auto written = out_->write(held->data(), held->size());
                   return written.attach(kj::mv(held));
                 })
                 .fork();
  return writing_.addBranch();
}

}  // namespace pleat
