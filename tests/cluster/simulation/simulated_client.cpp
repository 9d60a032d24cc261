#include "tests/cluster/simulation/simulated_client.h"

#include "cluster/messages.h"

namespace pleat::test {
namespace {

using Code = rpc::Error::Code;

constexpr auto kLate = 1 * kj::SECONDS;           // a word's way where nothing is wrong, some of it lost
constexpr auto kDoorPatience = 10 * kj::SECONDS;  // of a router with a client that takes nothing

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

SimulatedClient::SimulatedClient(kj::Timer& timer, Record& record, ReplicaSet& replicas, const RouterOptions& options,
                                 ClientPlan plan, Random random)
    : timer_(timer),
      record_(record),
      replicas_(replicas),
      options_(options),
      plan_(std::move(plan)),
      random_(random),
      whole_(whole_text(plan_.request)),
      arriving_(timer.atTime(plan_.arrives).then([this] { arrive(); }).eagerlyEvaluate(nullptr)) {}

void SimulatedClient::arrive() {
  record_.note("client ", plan_.number, " asks for ", whole_.tokens.size(), " tokens, ", name_of(plan_.manner));
  capnp::MallocMessageBuilder message;
  auto request = message.initRoot<rpc::GenerateRequest>();
  write(plan_, request);
  running_ = kj::READY_NOW;  // of an attempt before
  session_ = std::make_unique<Session>(timer_, replicas_, options_, request,
                                       [this](rpc::Piece::Reader piece) { return take(piece); });
  running_ = session_->run()
                 .then([this](Routed&& routed) { over(routed); },
                       [this](kj::Exception&& exception) {
                         const bool own = plan_.manner == Manner::fails || plan_.manner == Manner::stops_reading;
                         if (!own) record_.broken("client ", plan_.number, ": ", exception.getDescription());
                         close(End::left);
                       })
                 .eagerlyEvaluate(nullptr);
}

kj::Promise<void> SimulatedClient::take(rpc::Piece::Reader piece) {
  if (end_ != End::none) record_.broken("client ", plan_.number, " gets a piece after the end");
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
  return manner_of_taking().then([this] { taken_ = tokens_; });
}

kj::Promise<void> SimulatedClient::manner_of_taking() {
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

void SimulatedClient::leave() {
  if (end_ != End::none) return;
  running_ = nullptr;
  moves_ = session_->moves();
  session_ = nullptr;
  close(End::left);
}

void SimulatedClient::over(const Routed& routed) {
  moves_ = session_->moves();
  const bool prompt = plan_.manner == Manner::reads && !plan_.meets_faults && plan_.deadline_ms > 0;
  if (prompt && timer_.now() > plan_.arrives + plan_.deadline_ms * kj::MILLISECONDS + kLate)
    record_.broken("client ", plan_.number, " waits on behind its deadline of ", plan_.deadline_ms, " ms");
  if (!routed.refusal) {
    check_whole(routed);
    return close(End::whole);
  }
  refusal_ = routed.refusal->code();
  const uint32_t wait_ms = routed.refusal->retry_after_ms();
  const bool turned_away = refusal_ == Code::QUEUE_FULL || refusal_ == Code::DRAINING;
  if (turned_away && wait_ms == 0) record_.broken("client ", plan_.number, " is not told when to come again");
  if (turned_away && plan_.comes_again && pieces_ == 0) {
    record_.note("client ", plan_.number, " comes again in ", wait_ms, " ms");
    arriving_ = timer_.afterDelay(wait_ms * kj::MILLISECONDS).then([this] { arrive(); }).eagerlyEvaluate(nullptr);
    return;
  }
  if (!may_be_refused(refusal_)) record_.broken("client ", plan_.number, " is refused: ", routed.refusal->what());
  close(End::refused);
}

void SimulatedClient::check_whole(const Routed& routed) {
  const char* reason = routed.reason == rpc::FinishReason::STOP ? "stop" : "length";
  const size_t logprobs = plan_.request.sampling.logprobs >= 0 ? tokens_ : 0;
  if (text_ != whole_.text || tokens_ != whole_.tokens.size() || reason != whole_.finish_reason ||
      routed.completion_tokens != tokens_ || routed.prompt_tokens != plan_.request.prompt.size() ||
      logprobs_ != logprobs)
    record_.broken("client ", plan_.number, "'s text of ", whole_.tokens.size(), " tokens ends at ", tokens_, " with ",
                   reason, ", ", routed.prompt_tokens, " + ", routed.completion_tokens, " tokens, ", logprobs_,
                   " log probabilities: ", text_.c_str());
}

bool SimulatedClient::may_be_refused(Code code) const {
  switch (code) {
    case Code::QUEUE_FULL:
      return !plan_.comes_again;
    case Code::DRAINING:
      return plan_.meets_faults && !plan_.comes_again;
    case Code::DEADLINE_EXCEEDED:
      return plan_.deadline_ms > 0 && timer_.now() >= plan_.arrives + plan_.deadline_ms * kj::MILLISECONDS;
    case Code::SLOW_READER:
      return plan_.manner == Manner::reads_slowly || plan_.manner == Manner::stops_reading;
    default:
      return false;
  }
}

void SimulatedClient::close(End end) {
  constexpr const char* names[] = {"none", "whole", "refused", "left"};
  if (end_ != End::none) record_.broken("client ", plan_.number, " ends twice");
  end_ = end;
  record_.note("client ", plan_.number, " ends: ", names[int(end)]);
}

void SimulatedClient::asked(int64_t written) {
  if (plan_.manner != Manner::stops_reading || plan_.patience > 1) return;
  const int64_t most = (moves() + 1) * plan_.most_ahead;
  if (written - int64_t(taken_) > most)
    record_.broken("client ", plan_.number, " takes nothing, and ", written, " tokens are written for it");
}

}  // namespace pleat::test
