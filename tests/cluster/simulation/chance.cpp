#include "tests/cluster/simulation/chance.h"

#include <algorithm>

namespace pleat::test {
namespace {

constexpr auto kFirst = 2 * kj::SECONDS, kLast = 5 * kj::SECONDS;  // when clients come and faults happen

// A message of a text's growth is longer than this.
constexpr size_t kLeastMessage = 96;

}  // namespace

Chance::Chance(uint64_t seed)
    : random_(seed), replicas_(random_.chance(15) ? 1 : int(random_.between(2, 4))), calm_(random_.chance(10)) {
  for (int i = 0; i < 3; ++i) {
    beginnings_.emplace_back();
    for (int64_t count = random_.between(0, 40); count > 0; --count)
      beginnings_.back().push_back(int32_t(random_.between(1, kToyVocab - 1)));
  }
}

RouterOptions Chance::router_options() const {
  RouterOptions options;
  options.stats_period = 1 * kj::SECONDS;
  options.piece_timeout = 6 * kj::SECONDS;
  options.patience = 8 * kj::SECONDS;
  return options;
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
  limits.buffered_tokens = random_.between(8, 40);
  limits.reader_timeout_ms = 5000;
  limits.connections = 12;
  limits.idle_timeout_ms = 10'000;
  limits.complete(kToyPositions, batch.pages * kPageTokens);
  terms_.step = random_.between(5 * kj::MILLISECONDS, 80 * kj::MILLISECONDS);
  return terms_;
}

CableQuality Chance::cable_quality() {
  return {random_.between(50 * kj::MICROSECONDS, 20 * kj::MILLISECONDS),
          random_.between(0 * kj::MICROSECONDS, 5 * kj::MILLISECONDS),
          random_.chance(30) ? int(random_.between(1, 10)) : 0};
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

std::vector<ClientPlan> Chance::clients() {
  std::vector<ClientPlan> plans(size_t(random_.between(4, 16)));
  for (ClientPlan& plan : plans) {
    plan.arrives = kj::origin<kj::TimePoint>() + random_.between(kFirst, kLast);
    plan.request = some_request(clients_++);
    plan.meets_faults = !calm_;
    plan.most_ahead = int64_t(kWindowBytes / kLeastMessage) + 1 + terms_.limits.buffered_tokens + 1;
    some_manner(plan);
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
  }
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
  std::stable_sort(faults.begin(), faults.end(), [](const Fault& a, const Fault& b) { return a.at < b.at; });
  return faults;
}

}  // namespace pleat::test
