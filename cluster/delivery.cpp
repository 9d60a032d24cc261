#include "cluster/delivery.h"

#include "cluster/messages.h"

namespace pleat {
namespace {

void wake(kj::Maybe<kj::Own<kj::PromiseFulfiller<void>>>& fulfiller) {
  KJ_IF_MAYBE (sleeping, fulfiller) {
    (*sleeping)->fulfill();
    fulfiller = nullptr;
  }
}

kj::Promise<void> sleep(kj::Maybe<kj::Own<kj::PromiseFulfiller<void>>>& fulfiller) {
  auto paf = kj::newPromiseAndFulfiller<void>();
  fulfiller = kj::mv(paf.fulfiller);
  return kj::mv(paf.promise);
}

}  // namespace

Delivery::Delivery(kj::Timer& timer, const ServerLimits& limits, const Tokenizer& tokenizer,
                   kj::Maybe<rpc::Sink::Client> sink)
    : timer_(timer), limits_(limits), tokenizer_(tokenizer), sink_(kj::mv(sink)) {}

kj::Promise<Outcome> Delivery::run(kj::Duration deadline) {
  auto delivered = pump().catch_([this](kj::Exception&& exception) {
    end(Refusal(rpc::Error::Code::SINK_FAILED,
                concat("the client's sink failed: ", exception.getDescription().cStr())));
  });
  auto over = delivered.exclusiveJoin(sleep(ended_));
  if (deadline > 0 * kj::SECONDS) {
    const std::string message = concat("the deadline of ", deadline / kj::MILLISECONDS, " ms has passed");
    over = over.exclusiveJoin(refuse_after(deadline, rpc::Error::Code::DEADLINE_EXCEEDED, message));
  }
  return over.then([this]() -> Outcome {
    if (refusal_) return *refusal_;
    delivered_ = true;
    return std::move(*completion_);
  });
}

void Delivery::take(Report report) {
  if (report.error) {
    refused_ = true;
    return end(Refusal(*report.error));
  }
  if (report.completion && report.completion->error) {
    refused_ = true;
    return end(Refusal(rpc::Error::Code::NOT_FINITE, report.completion->error->what()));
  }
  if (has_sink()) waiting_.add(std::move(report.growth));
  if (report.completion) completion_ = std::move(report.completion);
  if (int64_t(waiting_.tokens.size()) > limits_.buffered_tokens)
    end(Refusal(rpc::Error::Code::SLOW_READER,
                concat("the client is more than ", limits_.buffered_tokens, " tokens behind")));
  wake(idle_);
}

void Delivery::end(Refusal why) {
  if (!refusal_) refusal_ = std::move(why);
  wake(ended_);
}

kj::Promise<void> Delivery::pump() {
  KJ_IF_MAYBE (sink, sink_) {
    if (!waiting_.tokens.empty()) return send_piece(*sink).then([this] { return pump(); });
    if (completion_)
      return in_time(sink->doneRequest().send().ignoreResult(), "the client has not taken the end of its text for");
  }
  if (completion_) return kj::READY_NOW;
  return sleep(idle_).then([this] { return pump(); });
}

kj::Promise<void> Delivery::send_piece(rpc::Sink::Client& sink) {
  auto request = sink.pushRequest();
  write_piece(waiting_, tokenizer_, request.initPiece());
  waiting_ = {};
  return in_time(request.send(), "the client has taken nothing for");
}

kj::Promise<void> Delivery::in_time(kj::Promise<void> sent, const char* late) {
  const std::string message = concat(late, ' ', limits_.reader_timeout_ms, " ms");
  return sent.exclusiveJoin(
      refuse_after(limits_.reader_timeout_ms * kj::MILLISECONDS, rpc::Error::Code::SLOW_READER, message));
}

kj::Promise<void> Delivery::refuse_after(kj::Duration delay, rpc::Error::Code code, std::string message) {
  return timer_.afterDelay(delay).then([this, code, message = std::move(message)] { end(Refusal(code, message)); });
}

}  // namespace pleat
