#include <algorithm>
#include <ctime>
#include <limits>

#include "cluster/messages.h"
#include "cluster/refusal.h"
#include "core/engine/continuations.h"

namespace pleat {
namespace {

void require_at_most(int64_t limit, int64_t size, const char* what) {
  if (size > limit)
    throw Refusal(rpc::Error::Code::TOO_LARGE, concat(what, ": ", size, ", the server takes at most ", limit));
}

[[noreturn]] void refuse_unknown(const char* what) {
  throw Error(ErrorKind::unimplemented,
              concat("this server is older than the client: it does not know this kind of ", what));
}

std::string text_of(capnp::Text::Reader text) { return {text.begin(), text.end()}; }

int integer(uint32_t value, const char* what) {
  PLEAT_REQUIRE(value <= uint32_t(std::numeric_limits<int>::max()), what, " is ", value, ", out of range");
  return int(value);
}

nlohmann::ordered_json conversation(capnp::List<rpc::Message>::Reader messages, const ServerLimits& limits) {
  require_at_most(limits.messages, messages.size(), "messages");
  int64_t bytes = 0;
  for (const auto message : messages) bytes += message.getRole().size() + message.getContent().size();
  require_at_most(limits.prompt_bytes, bytes, "bytes of all messages");
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const auto message : messages)
    all.push_back({{"role", text_of(message.getRole())}, {"content", text_of(message.getContent())}});
  return all;
}

std::string prompt_text(rpc::Prompt::Reader prompt, const ServerLimits& limits) {
  require_at_most(limits.prompt_bytes, prompt.getText().size(), "bytes of the prompt");
  return text_of(prompt.getText());
}

SamplingOptions read_sampling(rpc::Sampling::Reader in, const ModelTerms& terms) {
  const ServerLimits& limits = terms.limits;
  require_at_most(limits.stop_strings, in.getStop().size(), "stop strings");
  require_at_most(limits.logprobs, in.getLogprobs(), "logprobs");
  SamplingOptions sampling;
  sampling.temperature = in.getTemperature();
  sampling.top_k = integer(in.getTopK(), "top_k");
  sampling.top_p = in.getTopP();
  sampling.min_p = in.getMinP();
  sampling.repetition_penalty = in.getRepetitionPenalty();
  sampling.seed = in.getSeed();
  sampling.max_tokens = int(std::min<int64_t>(in.getMaxTokens(), terms.max_positions));
  for (const auto stop : in.getStop()) {
    require_at_most(limits.stop_bytes, stop.size(), "bytes of a stop string");
    sampling.stop.push_back(text_of(stop));
  }
  sampling.ignore_eos = in.getIgnoreEos();
  sampling.logprobs = in.getLogprobs();
  return sampling;
}

// Of texts that score() encodes: the context goes before each continuation.
int64_t encoded_bytes(rpc::ScoreRequest::Reader request) {
  const auto context = request.getContext();
  int64_t bytes = 0;
  for (const auto continuation : request.getContinuations()) {
    if (context.isText()) bytes += context.getText().size();
    if (continuation.isText()) bytes += continuation.getText().size();
  }
  return bytes;
}

// Where it is longer than what this server can hold, another one may still take it.
void require_fits(const Request& request, const ModelTerms& terms) {
  require_context(request, terms.max_positions);
  const auto told = int64_t(request.prompt.size() + request.given.size());
  const int64_t most = std::min(told + (request.given.empty() ? request.sampling.max_tokens : 0), terms.max_positions);
  if (terms.limits.cache_tokens > 0)
    require_at_most(terms.limits.cache_tokens, most, "tokens of the key-value cache for prompt and max_tokens");
}

// The context's and the continuation's tokens.
Continuation continuation_of(rpc::Prompt::Reader context, rpc::Continuation::Reader continuation,
                             const ModelTerms& terms) {
  switch (continuation.which()) {
    case rpc::Continuation::TEXT:
      PLEAT_REQUIRE(context.isText(), "a continuation as text needs a context as text");
      return continuation_tokens(terms.text.tokenizer, prompt_text(context, terms.limits),
                                 text_of(continuation.getText()));
    case rpc::Continuation::TOKENS: {
      Continuation out{read_prompt(context, terms), read_tokens(continuation.getTokens(), terms)};
      PLEAT_REQUIRE(!out.continuation.empty(), "a continuation has no tokens");
      return out;
    }
  }
  refuse_unknown("continuation");
}

}  // namespace

std::vector<int32_t> read_tokens(capnp::List<int32_t>::Reader tokens, const ModelTerms& terms) {
  require_at_most(terms.max_positions, tokens.size(), "tokens");
  return values_of(tokens);
}

std::vector<int32_t> read_prompt(rpc::Prompt::Reader prompt, const ModelTerms& terms, int64_t clock) {
  switch (prompt.which()) {
    case rpc::Prompt::TEXT:
      return terms.text.tokenizer.encode_with_special(prompt_text(prompt, terms.limits));
    case rpc::Prompt::MESSAGES:
      return terms.text.chat_tokens(conversation(prompt.getMessages(), terms.limits),
                                    clock ? std::time_t(clock) : std::time(nullptr));
    case rpc::Prompt::TOKENS:
      return read_tokens(prompt.getTokens(), terms);
  }
  refuse_unknown("prompt");
}

Request read_request(rpc::GenerateRequest::Reader in, const ModelTerms& terms) {
  Request request;
  request.sampling = read_sampling(in.getSampling(), terms);
  request.prompt = read_prompt(in.getPrompt(), terms, in.getClock());
  request.priority = in.getPriority();
  request.written = read_tokens(in.getWritten(), terms);
  require_fits(request, terms);
  return request;
}

std::vector<Request> read_requests(rpc::ScoreRequest::Reader in, const ModelTerms& terms) {
  require_at_most(terms.limits.continuations, in.getContinuations().size(), "continuations");
  PLEAT_REQUIRE(in.getContinuations().size() > 0, "there is no continuation to score");
  require_at_most(terms.limits.prompt_bytes, encoded_bytes(in), "bytes of the continuations, each with its context");
  std::vector<Request> requests;
  for (const auto continuation : in.getContinuations()) {
    Continuation tokens = continuation_of(in.getContext(), continuation, terms);
    Request request;
    request.prompt = std::move(tokens.context);
    request.given = std::move(tokens.continuation);
    request.priority = in.getPriority();
    require_fits(request, terms);
    requests.push_back(std::move(request));
  }
  return requests;
}

std::vector<int32_t> values_of(capnp::List<int32_t>::Reader list) {
  std::vector<int32_t> values;
  values.reserve(list.size());
  for (const int32_t value : list) values.push_back(value);
  return values;
}

std::vector<TokenLogprob> read_logprobs(capnp::List<rpc::Logprob>::Reader logprobs) {
  std::vector<TokenLogprob> out;
  for (const auto in : logprobs) {
    TokenLogprob& token = out.emplace_back();
    token.token = in.getToken();
    token.logprob = in.getLogprob();
    for (const auto best : in.getBest()) token.best.emplace_back(best.getToken(), best.getLogprob());
  }
  return out;
}

Completion read_completion(rpc::Completion::Reader in) {
  Completion completion;
  completion.finish_reason = in.getFinishReason() == rpc::FinishReason::STOP ? "stop" : "length";
  completion.prompt_tokens = in.getPromptTokens();
  completion.tokens = values_of(in.getTokens());
  completion.text = text_of(in.getText());
  completion.logprobs = read_logprobs(in.getLogprobs());
  return completion;
}

}  // namespace pleat
