#include "tests/cluster/simulation/chance.h"

#include <algorithm>

namespace pleat::test {
namespace {

constexpr int kChoices = 16;                                       // of one request at most
constexpr int kMostTexts = 3;                                      // of one that any queue has room for
constexpr auto kFirst = 2 * kj::SECONDS, kLast = 5 * kj::SECONDS;  // when clients come and faults happen

// A message of a text's growth is longer than this; so is what each token of an event with log probabilities takes.
constexpr size_t kLeastMessage = 96, kLeastToken = 40;

}  // namespace

Chance::Chance(uint64_t seed)
    : random_(seed),
      replicas_(random_.chance(15) ? 1 : int(random_.between(2, 4))),
      door_(random_.chance(50)),
      calm_(random_.chance(door_ ? 20 : 10)) {
  for (int i = 0; i < 3; ++i) {
    beginnings_.emplace_back();
    for (int64_t count = random_.between(0, 40); count > 0; --count)
      beginnings_.back().push_back(int32_t(random_.between(1, kToyVocab - 1)));
  }
}

RouterTerms Chance::router_terms() {
  RouterTerms terms;
  terms.options.stats_period = 1 * kj::SECONDS;
  terms.options.piece_timeout = 6 * kj::SECONDS;
  terms.options.patience = 8 * kj::SECONDS;
  terms.door = door_;
  terms.http.connections = int(random_.between(8, 40));
  terms.http.client_texts = client_texts_ = int(random_.between(kMostTexts, 24));
  terms.http.body_timeout = 6 * kj::SECONDS;
  terms.http.idle_timeout = 12 * kj::SECONDS;
  terms.http.write_timeout = 8 * kj::SECONDS;
  return terms;
}

ReplicaTerms Chance::replica_terms() {
  BatchLimits& batch = terms_.batch;
  batch.max_batch = int(random_.between(1, 6));
  batch.max_rows = int(random_.between(8, 48));
  batch.prefill_chunk = int(random_.between(3, 32));
  batch.share_prefixes = random_.chance(80);
  batch.vocab = kToyVocab;
  batch.max_positions = kToyPositions;
  batch.pages = random_.between(8, 48);
  batch.end_tokens = {kToyEnd};
  ServerLimits& limits = terms_.limits;
  limits.requests = random_.between(4, 24);
  if (random_.chance(25)) limits.requests_per_connection = random_.between(kMostTexts, limits.requests);
  limits.buffered_tokens = random_.between(8, 40);
  limits.reader_timeout_ms = 5000;
  limits.connections = 12;
  limits.idle_timeout_ms = 10'000;
  limits.complete(kToyPositions, batch.pages * kPageTokens);
  terms_.step = random_.between(5 * kj::MILLISECONDS, 80 * kj::MILLISECONDS);
  return terms_;
}

CableQuality some_cable_quality(Random& random) {
  CableQuality quality;
  quality.delay = random.between(50 * kj::MICROSECONDS, 20 * kj::MILLISECONDS);
  quality.jitter = random.between(0 * kj::MICROSECONDS, 5 * kj::MILLISECONDS);
  if (random.chance(30)) quality.lost = int(random.between(1, 10));
  return quality;
}

size_t Chance::client_of(std::span<const ToyCell> prompt) {
  return size_t(prompt[prompt.size() - 2].token * kToyVocab + prompt.back().token);
}

Request Chance::some_request(size_t number) {
  Request request;
  request.prompt = beginnings_[size_t(random_.between(0, 2))];
  for (int64_t count = random_.between(0, 16); count > 0; --count)
    request.prompt.push_back(int32_t(random_.between(1, kToyVocab - 1)));
  request.prompt.push_back(int32_t(number) / kToyVocab);
  request.prompt.push_back(int32_t(number) % kToyVocab);
  request.priority = int(random_.between(-1, 1));
  SamplingOptions& sampling = request.sampling;
  sampling.seed = random_.next();
  sampling.max_tokens = int(random_.chance(15) ? random_.between(1, 2) : random_.between(3, 48));
  if (random_.chance(40)) sampling.temperature = 0.8f;
  if (random_.chance(20)) sampling.top_k = 5;
  if (random_.chance(20)) sampling.repetition_penalty = 1.3f;
  if (random_.chance(30))
    sampling.stop = {std::string{char('a' + random_.between(0, 25)), char('a' + random_.between(0, 25))}};
  sampling.ignore_eos = random_.chance(60);
  sampling.logprobs = random_.chance(20) ? int(random_.between(0, 2)) : -1;
  return request;
}

void Chance::some_manner(ClientPlan& plan) {
  const int64_t draw = random_.between(1, 100);
  plan.manner = draw <= 60   ? Manner::reads
                : draw <= 75 ? Manner::reads_slowly
                : draw <= 83 ? Manner::stops_reading
                : draw <= 93 ? Manner::leaves
                             : Manner::fails;
  if (plan.manner != Manner::reads && plan.manner != Manner::reads_slowly)
    plan.patience = size_t(random_.between(1, 12));
  plan.pace = random_.between(1 * kj::MILLISECONDS, 400 * kj::MILLISECONDS);
  if (random_.chance(12)) plan.deadline_ms = uint32_t(random_.between(100, 4000));
}

// Over HTTP.
void Chance::some_talk(ClientPlan& plan) {
  plan.streams = random_.chance(70);
  plan.wants_usage = plan.streams && random_.chance(30);
  plan.line = some_cable_quality(random_);
  plan.line.holds = plan.manner == Manner::reads ? 64 * 1024 : 1024;  // a network keeps up with who reads
  plan.deadline_ms = 0;
  if (!plan.comes_again && random_.chance(15)) plan.n = int(random_.between(2, kMostTexts));
  if (plan.meets_faults && random_.chance(20))
    plan.fault = {LineFault::Kind(random_.between(LineFault::stall, LineFault::dead)),
                  random_.between(0 * kj::SECONDS, 2 * kj::SECONDS), absence()};
  plan.most_ahead = 0;
  if (plan.manner != Manner::stops_reading || plan.meets_faults) return;
  // One whose text is long enough to see how far ahead it is written.
  plan.streams = true;
  plan.wants_usage = false;
  plan.n = 1;
  plan.patience = 1;
  plan.line.lost = 0;
  SamplingOptions& sampling = plan.request.sampling;
  sampling.max_tokens = int(kToyPositions - int64_t(plan.request.prompt.size()));
  sampling.logprobs = 2;
  sampling.ignore_eos = true;
  sampling.stop.clear();
  plan.most_ahead =
      int64_t(plan.line.holds / kLeastToken + kWindowBytes / kLeastMessage) + 2 * (1 + terms_.limits.buffered_tokens);
}

std::vector<ClientPlan> Chance::clients() {
  std::vector<ClientPlan> plans(size_t(random_.between(4, 16)));
  for (ClientPlan& plan : plans) {
    plan.arrives = kj::origin<kj::TimePoint>() + random_.between(kFirst, kLast);
    plan.request = some_request(clients_++);
    plan.meets_faults = !calm_;
    plan.most_ahead = int64_t(kWindowBytes / kLeastMessage) + 1 + terms_.limits.buffered_tokens + 1;
    some_manner(plan);
    if (door_) some_talk(plan);
  }
  return plans;
}

std::vector<CallerPlan> Chance::callers() {
  std::vector<CallerPlan> plans(size_t(random_.between(0, 4)));
  for (CallerPlan& plan : plans) {
    plan.number = int(kCallers) + int(&plan - plans.data());
    plan.replica = int(random_.between(0, replicas_ - 1));
    plan.arrives = kj::origin<kj::TimePoint>() + random_.between(kFirst, kLast);
    plan.request = some_request(size_t(plan.number));
    plan.meets_faults = !calm_;
    if (random_.chance(30)) plan.leaves_after = random_.between(5 * kj::MILLISECONDS, 1 * kj::SECONDS);
    if (random_.chance(50)) continue;
    plan.given.resize(size_t(random_.between(1, 4)));
    for (auto& given : plan.given)
      for (int64_t count = random_.between(1, 12); count > 0; --count)
        given.push_back(int32_t(random_.between(0, kToyVocab - 1)));
    plan.fits = int64_t(plan.given.size()) <= terms_.limits.requests_per_connection;
  }
  return plans;
}

std::vector<ClientPlan> Chance::late_clients(kj::TimePoint now) {
  const int64_t most = std::min<int64_t>(terms_.batch.max_batch, terms_.limits.requests) * replicas_;
  std::vector<ClientPlan> plans(static_cast<size_t>(most));
  for (ClientPlan& plan : plans) {
    plan.arrives = now;
    plan.request = some_request(clients_++);
    plan.request.sampling.max_tokens = std::min(plan.request.sampling.max_tokens, 8);
    plan.comes_again = true;
    plan.meets_faults = false;
    if (door_) some_talk(plan);
  }
  // One takes all that its address may have under way, if the queues can hold it: there is nothing left of earlier
  // ones. In some worlds it asks for what may be more than that.
  if (!door_) return plans;
  ClientPlan& last = plans.back();
  const int64_t tokens = int64_t(last.request.prompt.size()) + last.request.sampling.max_tokens;
  const int64_t queues = std::min(terms_.limits.requests_per_connection, terms_.limits.tokens / tokens) * replicas_;
  const int64_t room = std::min<int64_t>(client_texts_, queues);
  last.n = int(random_.chance(40) ? random_.between(1, kChoices) : std::min<int64_t>(room, kChoices));
  last.fits = last.comes_again = last.n <= room;
  last.streams = last.wants_usage = false;  // it is refused as a whole
  return plans;
}

std::vector<Fault> Chance::faults() {
  std::vector<Fault> faults;
  for (int64_t count = calm_ ? 0 : random_.between(1, 7); count > 0; --count) {
    const auto kind = Fault::Kind(random_.between(Fault::kill, Fault::unlist));
    const kj::TimePoint at = kj::origin<kj::TimePoint>() + random_.between(kFirst, kLast);
    const int replica = int(random_.between(0, replicas_ - 1));
    faults.push_back({kind, at, replica, absence()});
  }
  for (int64_t count = !calm_ && random_.chance(40) ? random_.between(1, 2) : 0; count > 0; --count) {
    const auto kind =
        Fault::Kind(random_.between(Fault::kill_router, door_ ? Fault::drain_router : Fault::power_off_router));
    faults.push_back({kind, kj::origin<kj::TimePoint>() + random_.between(kFirst, kLast), 0, absence()});
  }
  return faults;
}

}  // namespace pleat::test
