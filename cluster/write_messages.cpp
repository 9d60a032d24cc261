#include "cluster/messages.h"

#include "kernels/check.h"

namespace pleat {
namespace {

void write_bytes(int32_t token, const Tokenizer& tokenizer, rpc::Logprob::Builder out) {
  const std::string bytes = tokenizer.piece(token);
  out.setBytes({reinterpret_cast<const kj::byte*>(bytes.data()), bytes.size()});
}

void write_logprobs(const std::vector<TokenLogprob>& logprobs, const Tokenizer& tokenizer,
                    capnp::List<rpc::Logprob>::Builder out) {
  for (uint i = 0; i < out.size(); ++i) {
    const TokenLogprob& in = logprobs[i];
    out[i].setToken(in.token);
    out[i].setLogprob(in.logprob);
    write_bytes(in.token, tokenizer, out[i]);
    auto best = out[i].initBest(uint(in.best.size()));
    for (uint j = 0; j < best.size(); ++j) {
      best[j].setToken(in.best[j].first);
      best[j].setLogprob(in.best[j].second);
      write_bytes(in.best[j].first, tokenizer, best[j]);
    }
  }
}

}  // namespace

void write_tokens(const std::vector<int32_t>& tokens, capnp::List<int32_t>::Builder out) {
  for (uint i = 0; i < out.size(); ++i) out.set(i, tokens[i]);
}

void write_piece(const Growth& growth, const Tokenizer& tokenizer, rpc::Piece::Builder out) {
  write_tokens(growth.tokens, out.initTokens(uint(growth.tokens.size())));
  out.setText(kj::StringPtr(growth.text.data(), growth.text.size()));
  if (!growth.logprobs.empty())
    write_logprobs(growth.logprobs, tokenizer, out.initLogprobs(uint(growth.logprobs.size())));
}

void write_completion(const Completion& completion, bool streamed, const Tokenizer& tokenizer,
                      rpc::Completion::Builder out) {
  out.setFinishReason(completion.finish_reason == "stop" ? rpc::FinishReason::STOP : rpc::FinishReason::LENGTH);
  out.setPromptTokens(uint32_t(completion.prompt_tokens));
  out.setCompletionTokens(uint32_t(completion.tokens.size()));
  if (streamed) return;
  write_tokens(completion.tokens, out.initTokens(uint(completion.tokens.size())));
  out.setText(kj::StringPtr(completion.text.data(), completion.text.size()));
  write_logprobs(completion.logprobs, tokenizer, out.initLogprobs(uint(completion.logprobs.size())));
}

void write_score(const Completion& completion, rpc::Score::Builder out) {
  write_tokens(completion.tokens, out.initTokens(uint(completion.tokens.size())));
  auto logprobs = out.initLogprobs(uint(completion.logprobs.size()));
  double sum = 0;
  for (uint i = 0; i < logprobs.size(); ++i) {
    logprobs.set(i, completion.logprobs[i].logprob);
    sum += completion.logprobs[i].logprob;
  }
  out.setSum(sum);
}

void write_sampling(const SamplingOptions& sampling, rpc::Sampling::Builder out) {
  PLEAT_REQUIRE(sampling.top_k >= 0, "top_k is ", sampling.top_k, ", expected 0 (all) or more");
  PLEAT_REQUIRE(sampling.max_tokens >= 1, "max_tokens is ", sampling.max_tokens, ", expected 1 or more");
  out.setTemperature(sampling.temperature);
  out.setTopK(uint32_t(sampling.top_k));
  out.setTopP(sampling.top_p);
  out.setMinP(sampling.min_p);
  out.setRepetitionPenalty(sampling.repetition_penalty);
  out.setSeed(sampling.seed);
  out.setMaxTokens(uint32_t(sampling.max_tokens));
  auto stop = out.initStop(uint(sampling.stop.size()));
  for (uint i = 0; i < stop.size(); ++i) stop.set(i, {sampling.stop[i].c_str(), sampling.stop[i].size()});
  out.setIgnoreEos(sampling.ignore_eos);
  out.setLogprobs(sampling.logprobs);
}

}  // namespace pleat
