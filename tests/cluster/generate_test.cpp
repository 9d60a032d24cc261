// Texts over RPC: the same as without it, whoever else is served and whatever other clients do.
#include <gtest/gtest.h>

#include "tests/cluster/served_model.h"

namespace pleat::test {
namespace {

Completion completion_of(const Answer& answer) {
  EXPECT_TRUE(answer.getResult().isOk()) << kj::str(answer).cStr();
  return read_completion(answer.getResult().getOk());
}

rpc::Error::Code code_of(const Answer& answer) {
  EXPECT_TRUE(answer.getResult().isError()) << kj::str(answer).cStr();
  return answer.getResult().getError().getCode();
}

TEST(Serving, TextsOverRpcAreTheSchedulersOnAnyNumberOfRanks) {
  std::vector<Request> requests = {some_request(1), some_request(2), some_request(3)};
  requests[1].sampling.logprobs = 3;
  requests[2].sampling.stop = {"e"};
  const auto expected = alone(requests);
  for (const int ranks : {1, 2, 3}) {
    ServedModel served(wide_limits(), ranks);
    Caller caller(served);
    for (const Request& request : requests) {
      const Completion& wanted = expected.at(request.id);
      Received received;
      const Answer answer = served.wait(ask(caller.engine(), request, received));
      const Completion rest = completion_of(answer);
      EXPECT_TRUE(received.done);
      EXPECT_EQ(received.all.text, wanted.text) << ranks << " ranks";
      EXPECT_EQ(received.all.tokens, wanted.tokens);
      EXPECT_EQ(rest.finish_reason, wanted.finish_reason);
      EXPECT_EQ(rest.prompt_tokens, wanted.prompt_tokens);
      EXPECT_EQ(answer.getResult().getOk().getCompletionTokens(), wanted.tokens.size());
      EXPECT_TRUE(rest.tokens.empty() && rest.text.empty()) << "the sink had them";
      ASSERT_EQ(received.all.logprobs.size(), wanted.logprobs.size());
      for (size_t i = 0; i < wanted.logprobs.size(); ++i) {
        EXPECT_EQ(received.all.logprobs[i].logprob, wanted.logprobs[i].logprob);
        EXPECT_EQ(received.all.logprobs[i].best, wanted.logprobs[i].best);
      }
    }
  }
}

TEST(Serving, WithoutASinkTheResultHoldsEverything) {
  Request request = some_request(1);
  request.sampling.logprobs = 1;
  const Completion expected = alone({request}).at("1");
  ServedModel served;
  Caller caller(served);
  auto call = caller.engine().generateRequest();
  write_sampling(request.sampling, call.initRequest().initSampling());
  write_tokens(request.prompt, call.getRequest().initPrompt().initTokens(uint(request.prompt.size())));
  const Completion completion = completion_of(served.wait(call.send()));
  EXPECT_EQ(completion.text, expected.text);
  EXPECT_EQ(completion.tokens, expected.tokens);
  ASSERT_EQ(completion.logprobs.size(), expected.logprobs.size());
  EXPECT_EQ(completion.logprobs.back().best, expected.logprobs.back().best);
}

TEST(Serving, EightClientsAtOnceGetTheTextsTheyGetAlone) {
  std::vector<Request> requests;
  for (int i = 0; i < 8; ++i) requests.push_back(some_request(i));
  const auto expected = alone(requests);
  SchedulerOptions options;
  options.max_batch = 5;
  ServedModel served(wide_limits(), 2, options);
  std::vector<std::unique_ptr<Caller>> callers;
  std::vector<Received> received(8);
  kj::Vector<kj::Promise<Answer>> answers;
  for (int i = 0; i < 8; ++i) {
    callers.push_back(std::make_unique<Caller>(served));
    answers.add(ask(callers.back()->engine(), requests[size_t(i)], received[size_t(i)]));
  }
  for (auto& answer : answers) completion_of(served.wait(kj::mv(answer)));
  for (int i = 0; i < 8; ++i) EXPECT_EQ(received[size_t(i)].all.text, expected.at(std::to_string(i)).text) << i;
  const auto stats = served.wait(callers[0]->engine().statsRequest().send());
  EXPECT_EQ(stats.getStats().getCompleted(), 8u);
  EXPECT_EQ(stats.getStats().getConnections(), 8u);
  EXPECT_EQ(stats.getStats().getRequests(), 0u);
}

TEST(Serving, PromptsThatBeginAlikeGetTheirOwnTextsFromSharedPages) {
  std::vector<Request> requests;
  for (int i = 0; i < 4; ++i) {
    requests.push_back(some_request(i));
    for (int token = 0; token < 100; ++token) requests.back().prompt.insert(requests.back().prompt.begin(), token);
  }
  std::map<std::string, Completion> expected;
  for (const Request& request : requests) expected.merge(alone({request}));  // each on an engine of its own
  ServedModel served(wide_limits(), 2);
  Caller caller(served);
  for (const Request& request : requests) {
    Received received;
    completion_of(served.wait(ask(caller.engine(), request, received)));
    EXPECT_EQ(received.all.tokens, expected.at(request.id).tokens) << request.id;
  }
  const auto stats = served.wait(caller.engine().statsRequest().send());
  EXPECT_EQ(stats.getStats().getReusedTokens(), 3u * 96u);
  EXPECT_EQ(stats.getStats().getKvPagesFree(), stats.getStats().getKvPages());
}

// How a client can leave in the middle of a text.
enum class Exit { drops_call, drops_connection };

void leave_in_the_middle(Exit how) {
  const auto expected = alone({some_request(1, 200)});
  ServedModel served(wide_limits(), 2);
  Caller stays(served);
  auto leaves = std::make_unique<Caller>(served);
  Received kept, lost;
  auto answer = ask(stays.engine(), some_request(1, 200), kept);
  kj::Maybe<kj::Promise<Answer>> dropped = ask(leaves->engine(), some_request(2, 450), lost).eagerlyEvaluate(nullptr);
  ASSERT_TRUE(served.until([&] { return lost.all.tokens.size() >= 3; }));
  const auto before = served.wait(stays.engine().statsRequest().send());
  EXPECT_EQ(before.getStats().getRunning(), 2u);
  // Prompts of 8 and 13 tokens and some more, in pages of 16.
  EXPECT_GE(before.getStats().getKvPages() - before.getStats().getKvPagesFree(), 2u);
  dropped = nullptr;
  if (how == Exit::drops_connection) leaves = nullptr;
  // The engine leaves it out of the next step, so a few tokens later at most the pages are back.
  const size_t tokens = kept.all.tokens.size();
  ASSERT_TRUE(served.until([&] {
    const auto now = served.wait(stays.engine().statsRequest().send());
    return now.getStats().getRunning() == 1 && now.getStats().getKvPages() - now.getStats().getKvPagesFree() <= 13;
  }));
  EXPECT_LT(kept.all.tokens.size(), tokens + 100) << "the other one still ran";
  completion_of(served.wait(kj::mv(answer)));
  EXPECT_EQ(kept.all.text, expected.at("1").text);
  EXPECT_LT(lost.all.tokens.size(), 450u);
  const auto after = served.wait(stays.engine().statsRequest().send());
  EXPECT_EQ(after.getStats().getKvPagesFree(), after.getStats().getKvPages());
  EXPECT_EQ(after.getStats().getCancelled(), 1u);
  EXPECT_EQ(after.getStats().getConnections(), how == Exit::drops_connection ? 1u : 2u);
}

TEST(Serving, ADroppedCallFreesItsPagesAndHarmsNobody) { leave_in_the_middle(Exit::drops_call); }
TEST(Serving, ADroppedConnectionFreesItsPagesAndHarmsNobody) { leave_in_the_middle(Exit::drops_connection); }

// A sink that takes pieces but answers none.
kj::Promise<void> never(Received&) { return kj::NEVER_DONE; }

TEST(Serving, AReaderThatFallsBehindIsCutOffAndOthersGoOn) {
  const auto expected = alone({some_request(1, 300)});
  ServerLimits limits = wide_limits();
  limits.buffered_tokens = 20;
  ServedModel served(limits);
  Caller quick(served), slow(served);
  Received received, stuck;
  Request wordy = some_request(2, 450);
  wordy.sampling.logprobs = 20;  // so that the flow window is soon full
  auto cut = ask(slow.engine(), wordy, stuck, never);
  auto answer = ask(quick.engine(), some_request(1, 300), received);
  EXPECT_EQ(code_of(served.wait(kj::mv(cut))), rpc::Error::Code::SLOW_READER);
  completion_of(served.wait(kj::mv(answer)));
  EXPECT_EQ(received.all.text, expected.at("1").text);
  const auto stats = served.wait(quick.engine().statsRequest().send());
  EXPECT_EQ(stats.getStats().getSlowReaders(), 1u);
  EXPECT_EQ(stats.getStats().getKvPagesFree(), stats.getStats().getKvPages());
  EXPECT_LT(stats.getStats().getGeneratedTokens(), 300u + 450u) << "nothing is computed for who does not read";
}

TEST(Serving, AReaderThatTakesNothingForTooLongIsCutOff) {
  ServerLimits limits = wide_limits();
  limits.reader_timeout_ms = 100;
  ServedModel served(limits);
  Caller caller(served);
  Received stuck;
  const Answer answer = served.wait(ask(caller.engine(), some_request(1, 3), stuck, never));
  EXPECT_EQ(code_of(answer), rpc::Error::Code::SLOW_READER);
  EXPECT_NE(std::string(answer.getResult().getError().getMessage().cStr()).find("100 ms"), std::string::npos);
}

TEST(Serving, ASlowReaderWithinItsBoundsGetsItsWholeText) {
  const auto expected = alone({some_request(1, 60)});
  ServedModel served;
  Caller caller(served);
  Received received;
  const auto slowly = [&](Received&) { return served.timer.afterDelay(5 * kj::MILLISECONDS); };
  completion_of(served.wait(ask(caller.engine(), some_request(1, 60), received, slowly)));
  EXPECT_EQ(received.all.text, expected.at("1").text);
}

TEST(Serving, ASinkThatThrowsEndsItsRequest) {
  ServedModel served;
  Caller caller(served);
  Received received;
  const auto throws = [](Received&) -> kj::Promise<void> { return KJ_EXCEPTION(FAILED, "no room"); };
  const Answer answer = served.wait(ask(caller.engine(), some_request(1, 450), received, throws));
  EXPECT_EQ(code_of(answer), rpc::Error::Code::SINK_FAILED);
  EXPECT_NE(std::string(answer.getResult().getError().getMessage().cStr()).find("no room"), std::string::npos);
}

TEST(Serving, BeyondItsRequestsOrTokensItIsOverloadedAndSaysWhenToComeBack) {
  for (const bool by_tokens : {false, true}) {
    ServerLimits limits = wide_limits();
    (by_tokens ? limits.tokens : limits.requests) = by_tokens ? 2 * 460 : 2;
    ServedModel served(limits);
    Caller caller(served);
    Received received[3];
    auto first = ask(caller.engine(), some_request(0, 450), received[0]).eagerlyEvaluate(nullptr);
    auto second = ask(caller.engine(), some_request(1, 450), received[1]).eagerlyEvaluate(nullptr);
    const Answer refused = served.wait(ask(caller.engine(), some_request(2, 450), received[2]));
    EXPECT_EQ(code_of(refused), rpc::Error::Code::QUEUE_FULL);
    const auto error = refused.getResult().getError();
    EXPECT_EQ(error.getKind(), rpc::Error::Kind::OVERLOADED);
    EXPECT_GE(error.getRetryAfterMs(), 50u);
    EXPECT_LE(error.getRetryAfterMs(), 60'000u);
    { const auto dropped = kj::mv(first); }
    EXPECT_TRUE(
        served.until([&] { return served.wait(caller.engine().statsRequest().send()).getStats().getRequests() <= 1; }));
    completion_of(served.wait(ask(caller.engine(), some_request(2, 3), received[2])));
    EXPECT_EQ(served.wait(caller.engine().statsRequest().send()).getStats().getOverloaded(), 1u);
  }
}

TEST(Serving, ADeadlineEndsARequestAndFreesItsPages) {
  ServedModel served;
  Caller caller(served);
  Received received;
  const auto slowly = [&](Received&) { return served.timer.afterDelay(1 * kj::MILLISECONDS); };
  const Answer answer = served.wait(ask(caller.engine(), some_request(1, 490), received, slowly, 60));
  EXPECT_EQ(code_of(answer), rpc::Error::Code::DEADLINE_EXCEEDED);
  EXPECT_TRUE(served.until([&] {
    const auto stats = served.wait(caller.engine().statsRequest().send());
    return stats.getStats().getKvPagesFree() == stats.getStats().getKvPages();
  }));
  EXPECT_EQ(served.wait(caller.engine().statsRequest().send()).getStats().getDeadlineExceeded(), 1u);
}

TEST(Serving, ADrainLetsRunningRequestsFinishAndTakesNoNewOnes) {
  const auto expected = alone({some_request(1, 100)});
  ServedModel served;
  Caller caller(served);
  Received received, late;
  auto answer = ask(caller.engine(), some_request(1, 100), received).eagerlyEvaluate(nullptr);
  ASSERT_TRUE(served.until([&] { return received.pushes > 0; }));
  auto drain = caller.engine().drainRequest().send();
  const Answer refused = served.wait(ask(caller.engine(), some_request(2), late));
  EXPECT_EQ(code_of(refused), rpc::Error::Code::DRAINING);
  EXPECT_EQ(refused.getResult().getError().getKind(), rpc::Error::Kind::DISCONNECTED);
  completion_of(served.wait(kj::mv(answer)));
  EXPECT_EQ(received.all.text, expected.at("1").text);
  EXPECT_EQ(served.wait(kj::mv(drain)).getCutOff(), 0u);
  served.wait(served.dispatcher.drained());
}

TEST(Serving, ADrainCutsOffWhatOutlastsItsGrace) {
  ServedModel served;
  Caller caller(served);
  Received received;
  auto answer = ask(caller.engine(), some_request(1, 490), received, never).eagerlyEvaluate(nullptr);
  ASSERT_TRUE(served.until([&] { return received.pushes > 0; }));
  auto drain = caller.engine().drainRequest();
  drain.setGraceMs(20);
  EXPECT_EQ(served.wait(drain.send()).getCutOff(), 1u);
  EXPECT_EQ(code_of(served.wait(kj::mv(answer))), rpc::Error::Code::DRAINING);
}

}  // namespace
}  // namespace pleat::test
