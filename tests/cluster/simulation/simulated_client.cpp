#include "tests/cluster/simulation/simulated_client.h"

namespace pleat::test {

namespace {

constexpr auto kForgotten = 2 * kj::SECONDS;  // after a client has left, some of its words lost

}  // namespace

using Code = rpc::Error::Code;

SimulatedClient::SimulatedClient(kj::Timer& timer, Record& record, SimulatedRouter& router, ClientPlan plan,
                                 Random random)
    : timer_(timer),
      record_(record),
      router_(router),
      plan_(std::move(plan)),
      random_(random),
      arriving_(kj::READY_NOW) {
  come_again(plan_.arrives - timer.now());
}

void SimulatedClient::come_again(kj::Duration delay) {
  arriving_ = timer_.afterDelay(delay)
                  .then([this] {
                    ++times_;
                    arrive();
                  })
                  .eagerlyEvaluate(nullptr);
}

void SimulatedClient::refused(Code code, const char* sentence, uint32_t wait_ms, bool begun) {
  refusal_ = code;
  const bool turned_away = code == Code::QUEUE_FULL || code == Code::DRAINING || code == Code::UNAVAILABLE;
  if (turned_away && wait_ms == 0) record_.broken("client ", plan_.number, " is not told when to come again");
  if (turned_away && plan_.comes_again && !begun) {
    record_.note("client ", plan_.number, " comes again in ", wait_ms, " ms");
    return come_again(wait_ms * kj::MILLISECONDS);
  }
  if (!may_be_refused(code)) record_.broken("client ", plan_.number, " is refused: ", sentence);
  close(End::refused);
}

bool SimulatedClient::may_be_refused(Code code) const {
  switch (code) {
    case Code::QUEUE_FULL:
      return plan_.fits && !plan_.comes_again;
    case Code::TOO_LARGE:
      return !plan_.fits;
    case Code::DRAINING:
    case Code::UNAVAILABLE:
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
  if (over()) record_.broken("client ", plan_.number, " ends twice");
  end_ = end;
  ended_ = timer_.now();
  arriving_ = kj::READY_NOW;
  record_.note("client ", plan_.number, " ends: ", names[int(end)]);
}

void SimulatedClient::asked(int64_t written) {
  if (plan_.manner == Manner::leaves && !plan_.meets_faults && over() && timer_.now() > ended_ + kForgotten)
    record_.broken("client ", plan_.number, " has left, and its text is still written");
  if (plan_.manner != Manner::stops_reading || plan_.patience > 1 || plan_.most_ahead == 0) return;
  const int64_t most = (moves() + times_) * plan_.most_ahead;
  if (written - int64_t(taken_) > most)
    record_.broken("client ", plan_.number, " takes nothing, and ", written, " tokens are written for it");
}

}  // namespace pleat::test
