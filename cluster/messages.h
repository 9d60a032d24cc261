#pragma once
// Between the schema's messages and the engine's own types. What is read comes from strangers: every size is checked
// against the server's limits before anything of that size is made, and a value that this program does not know is
// refused.
#include <optional>
#include <string>
#include <vector>

#include "cluster/exchange.h"
#include "cluster/pleat.capnp.h"
#include "cluster/server_limits.h"
#include "core/engine/request.h"
#include "core/text/model_text.h"

namespace pleat {

// What reading needs to know.
struct ModelTerms {
  const ModelText& text;
  const ServerLimits& limits;
  int64_t max_positions;
};

// clock: GenerateRequest's.
std::vector<int32_t> read_prompt(rpc::Prompt::Reader prompt, const ModelTerms& terms, int64_t clock = 0);
Request read_request(rpc::GenerateRequest::Reader request, const ModelTerms& terms);
// One request a continuation.
std::vector<Request> read_requests(rpc::ScoreRequest::Reader request, const ModelTerms& terms);
std::vector<int32_t> read_tokens(capnp::List<int32_t>::Reader tokens, const ModelTerms& terms);

void write_tokens(const std::vector<int32_t>& tokens, capnp::List<int32_t>::Builder out);
void write_piece(const Growth& growth, const Tokenizer& tokenizer, rpc::Piece::Builder out);
// `streamed`: a sink had tokens, text and logprobs.
void write_completion(const Completion& completion, bool streamed, const Tokenizer& tokenizer,
                      rpc::Completion::Builder out);
void write_score(const Completion& completion, rpc::Score::Builder out);

// For clients.
void write_sampling(const SamplingOptions& sampling, rpc::Sampling::Builder out);
std::vector<int32_t> values_of(capnp::List<int32_t>::Reader list);
std::vector<TokenLogprob> read_logprobs(capnp::List<rpc::Logprob>::Reader logprobs);
Completion read_completion(rpc::Completion::Reader completion);

}  // namespace pleat
