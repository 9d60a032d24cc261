#include "tests/cluster/simulation/session_client.h"

#include "cluster/messages.h"

namespace pleat::test {
namespace {

constexpr auto kDoorPatience = 10 * kj::SECONDS;  // of a router with a client that takes nothing
constexpr auto kWithoutRouter = 500 * kj::MILLISECONDS;

void write(const ClientPlan& plan, rpc::GenerateRequest::Builder out) {
  write_sampling(plan.request.sampling, out.initSampling());
  write_tokens(plan.request.prompt, out.initPrompt().initTokens(uint32_t(plan.request.prompt.size())));
  out.setPriority(int16_t(plan.request.priority));
  out.setDeadlineMs(plan.deadline_ms);
}

const char* name_of(Manner manner) {
  constexpr const char* names[] = {"reads", "reads slowly", "stops reading", "leaves", "fails"};
  return names[int(manner)];
}

}  // namespace

SessionClient::SessionClient(kj::Timer& timer, Record& record, SimulatedRouter& router, ClientPlan plan, Random random)
    : SimulatedClient(timer, record, router, std::move(plan), random), whole_(whole_text(plan_.request)) {}

void SessionClient::arrive() {
  record_.note("client ", plan_.number, " asks for ", whole_.tokens.size(), " tokens, ", name_of(plan_.manner));
  capnp::MallocMessageBuilder message;
  auto request = message.initRoot<rpc::GenerateRequest>();
  write(plan_, request);
  drop();  // of an attempt before
  if (!router_.up()) {
    running_ = timer_.afterDelay(kWithoutRouter).then([this] { come_again(0 * kj::SECONDS); }).eagerlyEvaluate(nullptr);
    return;
  }
  asked_ = timer_.now();
  session_ = std::make_unique<Session>(timer_, router_.replicas(), router_.options(), request,
                                       [this](rpc::Piece::Reader piece) { return take(piece); });
  running_ = session_->run()
                 .then([this](Routed&& routed) { ended(routed); },
                       [this](kj::Exception&& exception) {
                         const bool own = plan_.manner == Manner::fails || plan_.manner == Manner::stops_reading;
                         if (!own) record_.broken("client ", plan_.number, ": ", exception.getDescription());
                         close(End::left);
                       })
                 .eagerlyEvaluate(nullptr);
}

kj::Promise<void> SessionClient::take(rpc::Piece::Reader piece) {
  if (over()) record_.broken("client ", plan_.number, " gets a piece after the end");
  ++pieces_;
  text_.append(piece.getText().begin(), piece.getText().end());
  for (const int32_t token : piece.getTokens())
    if (tokens_ >= whole_.tokens.size() || whole_.tokens[tokens_++] != token) {
      record_.broken("client ", plan_.number, "'s token ", tokens_, " is ", token, ", which is not its text's");
      break;
    }
  logprobs_ += piece.getLogprobs().size();
  if (!whole_.text.starts_with(text_)) record_.broken("client ", plan_.number, "'s text is wrong: ", text_.c_str());
  record_.note("client ", plan_.number, " has ", tokens_, " tokens");
  return manner_of_taking().then([this] { taken_ = std::max(taken_, tokens_); });
}

kj::Promise<void> SessionClient::manner_of_taking() {
  const auto lost = []() -> kj::Promise<void> { return KJ_EXCEPTION(DISCONNECTED, "the client is gone"); };
  const bool enough = pieces_ >= plan_.patience;
  if (plan_.manner == Manner::fails && enough) return lost();
  if (plan_.manner == Manner::stops_reading && enough) return timer_.afterDelay(kDoorPatience).then(lost);
  if (plan_.manner == Manner::leaves && pieces_ == plan_.patience)
    leaving_ = timer_.afterDelay(random_.between(0 * kj::SECONDS, plan_.pace))
                   .then([this] { leave(); })
                   .eagerlyEvaluate(nullptr);
  if (plan_.manner != Manner::reads_slowly) return kj::READY_NOW;
  return timer_.afterDelay(random_.between(0 * kj::SECONDS, plan_.pace));
}

void SessionClient::drop() {
  running_ = kj::READY_NOW;
  moves_ = moves();
  session_ = nullptr;
  tokens_ = pieces_ = logprobs_ = 0;
  text_.clear();
}

void SessionClient::leave() {
  if (over()) return;
  drop();
  close(End::left);
}

void SessionClient::lose_router(bool) {
  if (!session_) return;
  leaving_ = kj::READY_NOW;
  drop();
  if (over()) return;
  record_.note("client ", plan_.number, " has lost the router");
  come_again(kWithoutRouter);
}

void SessionClient::ended(const Routed& routed) {
  const bool prompt = plan_.manner == Manner::reads && plan_.deadline_ms > 0;
  if (prompt && timer_.now() > asked_ + plan_.deadline_ms * kj::MILLISECONDS)
    record_.broken("client ", plan_.number, " waits on behind its deadline of ", plan_.deadline_ms, " ms");
  if (routed.refusal)
    return refused(routed.refusal->code(), routed.refusal->what(), routed.refusal->retry_after_ms(), pieces_ > 0);
  check_whole(routed);
  close(End::whole);
}

void SessionClient::check_whole(const Routed& routed) {
  const char* reason = routed.reason == rpc::FinishReason::STOP ? "stop" : "length";
  const size_t logprobs = plan_.request.sampling.logprobs >= 0 ? tokens_ : 0;
  if (text_ != whole_.text || tokens_ != whole_.tokens.size() || reason != whole_.finish_reason ||
      routed.completion_tokens != tokens_ || routed.prompt_tokens != plan_.request.prompt.size() ||
      logprobs_ != logprobs)
    record_.broken("client ", plan_.number, "'s text of ", whole_.tokens.size(), " tokens ends at ", tokens_, " with ",
                   reason, ", ", routed.prompt_tokens, " + ", routed.completion_tokens, " tokens, ", logprobs_,
                   " log probabilities: ", text_.c_str());
}

}  // namespace pleat::test
