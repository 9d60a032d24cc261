#include "tests/cluster/simulation/simulated_caller.h"

#include "cluster/messages.h"
#include "cluster/refusal.h"

namespace pleat::test {
namespace {

constexpr auto kPatience = 30 * kj::SECONDS;

}  // namespace

SimulatedCaller::SimulatedCaller(kj::Timer& timer, Record& record, CallerPlan plan, Connect connect)
    : timer_(timer),
      record_(record),
      plan_(std::move(plan)),
      connect_(std::move(connect)),
      running_(timer.atTime(plan_.arrives).then([this] { return call(); }).eagerlyEvaluate(nullptr)) {}

kj::Promise<void> SimulatedCaller::call() {
  record_.note("caller ", plan_.number, " asks replica ", plan_.replica,
               plan_.given.empty() ? " for a text" : " for scores");
  const bool waits = !plan_.leaves_after;
  leaving_ = timer_.afterDelay(plan_.leaves_after.value_or(kPatience))
                 .then([this, waits] {
                   if (waits && !plan_.meets_faults) record_.broken("caller ", plan_.number, " waits in vain");
                   end("leaves");
                 })
                 .eagerlyEvaluate(nullptr);
  return connect_()
      .then([this](kj::Own<kj::AsyncIoStream> stream) {
        connection_ = std::make_unique<Connection>(kj::mv(stream));
        return plan_.given.empty() ? ask_for_text() : ask_for_scores();
      })
      .catch_([this](kj::Exception&& exception) {
        const bool lost = exception.getType() == kj::Exception::Type::DISCONNECTED;
        if (!lost || !plan_.meets_faults) record_.broken("caller ", plan_.number, ": ", exception.getDescription());
      })
      // Not from within what the connection itself runs.
      .then([this] { leaving_ = kj::evalLater([this] { end("ends"); }).eagerlyEvaluate(nullptr); });
}

void SimulatedCaller::end(const char* how) {
  record_.note("caller ", plan_.number, " ", how);
  running_ = nullptr;
  connection_ = nullptr;
  over_ = true;
}

kj::Promise<void> SimulatedCaller::ask_for_text() {
  auto call = connection_->engine.generateRequest();
  auto request = call.initRequest();
  write_sampling(plan_.request.sampling, request.initSampling());
  write_tokens(plan_.request.prompt, request.initPrompt().initTokens(uint32_t(plan_.request.prompt.size())));
  return call.send().then([this](capnp::Response<rpc::Engine::GenerateResults>&& answer) {
    const auto result = answer.getResult();
    result.isOk() ? check(result.getOk()) : refused(result.getError());
  });
}

kj::Promise<void> SimulatedCaller::ask_for_scores() {
  auto call = connection_->engine.scoreRequest();
  auto request = call.initRequest();
  write_tokens(plan_.request.prompt, request.initContext().initTokens(uint32_t(plan_.request.prompt.size())));
  auto continuations = request.initContinuations(uint32_t(plan_.given.size()));
  for (uint32_t i = 0; i < continuations.size(); ++i)
    write_tokens(plan_.given[i], continuations[i].initTokens(uint32_t(plan_.given[i].size())));
  return call.send().then([this](capnp::Response<rpc::Engine::ScoreResults>&& answer) {
    const auto result = answer.getResult();
    result.isOk() ? check(result.getOk()) : refused(result.getError());
  });
}

void SimulatedCaller::check(rpc::Completion::Reader text) {
  answered_ = true;
  const WholeText whole = whole_text(plan_.request);
  const Completion completion = read_completion(text);
  if (completion.tokens != whole.tokens || completion.text != whole.text ||
      completion.finish_reason != whole.finish_reason)
    record_.broken("caller ", plan_.number, "'s text is wrong: ", completion.text.c_str());
}

void SimulatedCaller::check(rpc::Scores::Reader scores) {
  answered_ = true;
  if (!plan_.fits) record_.broken("caller ", plan_.number, " asks for too much and is answered");
  const auto all = scores.getContinuations();
  if (all.size() != plan_.given.size()) return record_.broken("caller ", plan_.number, " has ", all.size(), " scores");
  for (uint32_t i = 0; i < all.size(); ++i) {
    std::vector<float> logprobs;
    for (const float logprob : all[i].getLogprobs()) logprobs.push_back(logprob);
    if (values_of(all[i].getTokens()) != plan_.given[i] ||
        logprobs != toy_logprobs(plan_.request.prompt, plan_.given[i]))
      record_.broken("caller ", plan_.number, "'s score ", i, " is wrong");
  }
}

void SimulatedCaller::refused(rpc::Error::Reader error) {
  const auto code = error.getCode();
  const bool for_now =
      code == rpc::Error::Code::QUEUE_FULL || (code == rpc::Error::Code::DRAINING && plan_.meets_faults);
  const bool may_be = plan_.fits ? for_now : code == rpc::Error::Code::TOO_LARGE;
  if (!may_be) record_.broken("caller ", plan_.number, " is refused: ", error.getMessage());
}

}  // namespace pleat::test
