#include "cluster/router/session.h"

#include <algorithm>
#include <ctime>
#include <utility>

#include "cluster/messages.h"
#include "cluster/router/waiting.h"

namespace pleat {
namespace {

constexpr auto kAgain = 200 * kj::MILLISECONDS;  // until a text that has begun is offered to the replicas once more
constexpr auto kSlow = 50 * kj::MILLISECONDS;    // of a client; pieces that come all at once are taken one by one
constexpr uint32_t kRetryAfterMs = 1000;         // where nobody said when

// What a prompt's beginnings are known by.
std::string bytes_of(rpc::Prompt::Reader prompt) {
  std::string bytes;
  switch (prompt.which()) {
    case rpc::Prompt::TEXT:
      bytes.assign(prompt.getText().begin(), prompt.getText().end());
      break;
    case rpc::Prompt::MESSAGES:
      for (const auto message : prompt.getMessages())
        bytes += concat(message.getRole().cStr(), '\n', message.getContent().cStr(), '\0');
      break;
    case rpc::Prompt::TOKENS:
      for (const int32_t token : prompt.getTokens()) bytes.append(reinterpret_cast<const char*>(&token), sizeof token);
      break;
  }
  return bytes;
}

Routed refused(const Refusal& refusal) { return {{}, 0, 0, refusal}; }

// As a promise. (g++ 12 takes one made of the value itself for uninitialised.)
kj::Promise<Routed> promise(Routed routed) {
  return kj::evalLater([routed = std::move(routed)]() mutable { return std::move(routed); });
}
kj::Promise<Routed> refuse(const Refusal& refusal) { return promise(refused(refusal)); }

}  // namespace

// What one replica is asked for.
class Session::Attempt {
 public:
  Attempt(Session& session, std::shared_ptr<Replica> replica, int64_t tokens)
      : stay(std::move(replica), tokens), session_(session) {}
  ~Attempt() noexcept(false) { *self_ = nullptr; }
  KJ_DISALLOW_COPY(Attempt);

  rpc::Sink::Client sink() { return kj::heap<Sink>(self_); }
  // Where the client is lost no replica can end well.
  void failed() {
    if (!session_.client_lost_) stay.failed();
  }

  Replica::Stay stay;
  bool begun = false;  // a piece has come

 private:
  // The connection may keep it longer than anybody waits.
  class Sink final : public rpc::Sink::Server {
   public:
    explicit Sink(std::shared_ptr<Attempt*> attempt) : attempt_(std::move(attempt)) {}

   private:
    kj::Promise<void> push(PushContext context) override {
      if (!*attempt_) return failure(kj::Exception::Type::DISCONNECTED, "nobody waits for this text any more");
      return (*attempt_)->session_.receive(**attempt_, context.getParams().getPiece());
    }
    kj::Promise<void> done(DoneContext) override { return kj::READY_NOW; }

    std::shared_ptr<Attempt*> attempt_;
  };

  Session& session_;
  const std::shared_ptr<Attempt*> self_ = std::make_shared<Attempt*>(this);
};

Session::Session(kj::Timer& timer, ReplicaSet& replicas, const RouterOptions& options,
                 rpc::GenerateRequest::Reader request, Take take)
    : timer_(timer),
      replicas_(replicas),
      options_(options),
      take_(std::move(take)),
      start_(timer.now()),
      progress_(timer.now()),
      taking_(kj::READY_NOW) {
  message_.setRoot(request);
  auto copy = message_.getRoot<rpc::GenerateRequest>();
  if (copy.getClock() == 0) copy.setClock(std::time(nullptr));
  request_ = copy.asReader();
  beginnings_ = PrefixAffinity::beginnings(bytes_of(request_.getPrompt()));
}

Session::~Session() noexcept(false) = default;

kj::Promise<Routed> Session::run() {
  auto routed = go_on();
  if (const int64_t ms = request_.getDeadlineMs(); ms > 0) {
    const Refusal late(rpc::Error::Code::DEADLINE_EXCEEDED, concat("the deadline of ", ms, " ms has passed"));
    routed = routed.exclusiveJoin(timer_.atTime(start_ + ms * kj::MILLISECONDS).then([late] { return refused(late); }));
  }
  return routed.then([this](Routed&& end) { return after_the_last_piece(std::move(end)); });
}

kj::Promise<Routed> Session::go_on() {
  if (client_lost_) return promise({});
  const auto replica = replicas_.choose(beginnings_, tried_, written_.empty() ? "" : identity_);
  if (!replica) return nobody();
  if (!fits(*replica))
    return refuse(Refusal(
        rpc::Error::Code::TOO_LARGE,
        concat("the request has more than the ", replica->facts().message_bytes, " bytes that a server takes")));
  return try_at(replica).then([this](std::optional<Routed> routed) -> kj::Promise<Routed> {
    return routed ? promise(std::move(*routed)) : go_on();
  });
}

// A longer message would close the connection, and with it end the texts of others there.
bool Session::fits(const Replica& replica) const {
  const uint64_t bytes = request_.totalSize().wordCount * sizeof(capnp::word) + written_.size() * sizeof(int32_t);
  return bytes + 4096 <= replica.facts().message_bytes;
}

kj::Promise<std::optional<Routed>> Session::try_at(std::shared_ptr<Replica> replica) {
  tried_.insert(replica->number());
  identity_ = replica->facts().identity;
  if (!written_.empty()) ++moves_;
  auto attempt = kj::heap<Attempt>(*this, std::move(replica), expected_tokens());
  Attempt& at = *attempt;
  auto call = at.stay.engine().generateRequest();
  call.setRequest(request_);
  auto request = call.getRequest();
  if (request_.getDeadlineMs() > 0) {
    const int64_t left = int64_t(request_.getDeadlineMs()) - (timer_.now() - start_) / kj::MILLISECONDS;
    request.setDeadlineMs(uint32_t(std::max<int64_t>(1, left)));
  }
  write_tokens(written_, request.initWritten(uint32_t(written_.size())));
  call.setSink(at.sink());
  using Outcome = std::optional<Routed>;
  auto answered = call.send().then(
      [this, &at](capnp::Response<rpc::Engine::GenerateResults>&& answer) { return judge(at, answer.getResult()); },
      [this, &at](kj::Exception&& exception) -> Outcome {
        if (exception.getType() != kj::Exception::Type::DISCONNECTED) at.failed();
        trouble_ = exception.getDescription().cStr();
        return std::nullopt;
      });
  auto hung = hangs(at).then([this, &at]() -> Outcome {
    at.failed();
    stood_still_.insert(at.stay.replica().number());
    trouble_ = "a replica stopped in the middle of the text";
    return std::nullopt;
  });
  return answered.exclusiveJoin(kj::mv(hung)).attach(kj::mv(attempt));
}

// With the prompt's tokens at about four bytes each.
int64_t Session::expected_tokens() const {
  return int64_t(request_.getPrompt().totalSize().wordCount * 2) + int64_t(request_.getSampling().getMaxTokens()) -
         int64_t(written_.size());
}

// What an answer means; null: another replica shall go on.
std::optional<Routed> Session::judge(Attempt& attempt, rpc::Result<rpc::Completion>::Reader result) {
  if (result.isOk()) {
    const auto end = result.getOk();
    if (end.getCompletionTokens() == written_.size())
      return Routed{end.getFinishReason(), end.getPromptTokens(), end.getCompletionTokens(), {}};
    trouble_ = concat("a replica counts ", end.getCompletionTokens(), " tokens, but sent ", written_.size());
    attempt.failed();
    return std::nullopt;
  }
  const Refusal refusal(result.getError());
  trouble_ = refusal.what();
  switch (refusal.code()) {
    case rpc::Error::Code::DRAINING:
      return std::nullopt;
    case rpc::Error::Code::QUEUE_FULL:
      retry_after_ms_ = std::min(retry_after_ms_ == 0 ? UINT32_MAX : retry_after_ms_, refusal.retry_after_ms());
      return std::nullopt;
    case rpc::Error::Code::TOO_LARGE:
      too_large_ = refusal;
      return std::nullopt;
    case rpc::Error::Code::INTERNAL:
    case rpc::Error::Code::SINK_FAILED:  // the sink is this session, and it found a piece wrong
      attempt.failed();
      return std::nullopt;
    case rpc::Error::Code::SLOW_READER:
      if (!untaken_.empty() && timer_.now() - untaken_.front() >= kSlow) return refused(refusal);
      return std::nullopt;  // the client takes what there is: what is slow is the way here, for this text
    default:
      return refused(refusal);
  }
}

// No replica is left to try. A text that has begun waits for one; where another is only full, not for one where it
// stood still.
kj::Promise<Routed> Session::nobody() {
  if (!alone_since_) alone_since_ = timer_.now();
  if (!written_.empty() && timer_.now() - *alone_since_ < options_.patience) {
    tried_ = std::exchange(retry_after_ms_, 0) > 0 ? stood_still_ : std::set<int>();
    return timer_.afterDelay(kAgain).then([this] { return go_on(); });
  }
  const std::string why = trouble_.empty() ? "" : concat("; the last one said: ", trouble_);
  if (retry_after_ms_ > 0)
    return refuse(Refusal(rpc::Error::Code::QUEUE_FULL, "all replicas are busy" + why, retry_after_ms_));
  if (too_large_) return refuse(*too_large_);
  return refuse(Refusal(rpc::Error::Code::UNAVAILABLE, "no replica can take the request" + why, kRetryAfterMs));
}

// Ready when the text has stood still for too long; a prompt may wait, and so may pieces that the client does not take.
// It is looked at once more, for what came while this process itself stood still.
kj::Promise<void> Session::hangs(Attempt& attempt, bool again) {
  const kj::TimePoint late = progress_ + options_.piece_timeout;
  const bool hung = timer_.now() >= late && attempt.begun && untaken_.empty();
  if (hung && again) return kj::READY_NOW;
  return timer_.atTime(std::max(late, timer_.now() + kAgain)).then([this, &attempt, hung] {
    return hangs(attempt, hung);
  });
}

kj::Promise<void> Session::receive(Attempt& attempt, rpc::Piece::Reader piece) {
  const auto tokens = piece.getTokens();
  const bool wants_logprobs = request_.getSampling().getLogprobs() >= 0;
  if (tokens.size() == 0 || written_.size() + tokens.size() > request_.getSampling().getMaxTokens() ||
      piece.getLogprobs().size() != (wants_logprobs ? tokens.size() : 0))
    return failure(kj::Exception::Type::FAILED, "this is no piece of the text that was asked for");
  for (const int32_t token : tokens) written_.push_back(token);
  attempt.begun = true;
  attempt.stay.succeeded();
  tried_ = {attempt.stay.replica().number()};
  stood_still_.clear();
  alone_since_.reset();
  retry_after_ms_ = 0;
  too_large_.reset();
  progress_ = timer_.now();
  return hand_on(piece);
}

// Not within the call that brought it: that ends with its connection, and a piece that has come is the client's.
kj::Promise<void> Session::hand_on(rpc::Piece::Reader piece) {
  auto taken = kj::newPromiseAndFulfiller<void>();
  auto held = capnp::clone(piece);
  untaken_.push_back(timer_.now());
  taking_ = taking_
                .then([this, copy = kj::mv(held)]() mutable {
                  auto done = take_(*copy);
                  return done.attach(kj::mv(copy));
                })
                .then(
                    [this, fulfiller = kj::mv(taken.fulfiller)]() mutable {
                      untaken_.pop_front();
                      progress_ = timer_.now();
                      fulfiller->fulfill();
                    },
                    [this](kj::Exception&& exception) {
                      client_lost_ = true;
                      kj::throwFatalException(kj::mv(exception));
                    })
                .eagerlyEvaluate(nullptr);
  return kj::mv(taken.promise);
}

kj::Promise<Routed> Session::after_the_last_piece(Routed routed) {
  return kj::mv(taking_).then([routed = std::move(routed)]() mutable { return std::move(routed); });
}

}  // namespace pleat
