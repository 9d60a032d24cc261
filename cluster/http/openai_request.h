#pragma once
// A body of /v1/completions or /v1/chat/completions, read.
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "cluster/http/http_limits.h"
#include "cluster/pleat.capnp.h"
#include "core/engine/request.h"

namespace pleat {

// A text, tokens, or a conversation of (role, content).
using OpenAiPrompt = std::variant<std::string, std::vector<int32_t>, std::vector<std::pair<std::string, std::string>>>;

struct OpenAiRequest {
  bool chat = false, stream = false, include_usage = false;
  std::string model;  // empty: whichever is served
  int n = 1;          // texts of each prompt
  std::vector<OpenAiPrompt> prompts;
  SamplingOptions sampling;
  int priority = 0;  // as rpc::GenerateRequest's, where a higher one goes first

  int choices() const { return n * int(prompts.size()); }
  // That are known to be in each prompt: of texts none.
  int64_t least_prompt_tokens() const;
};

// Temperature 1 where the body has none, as OpenAI's; 16 tokens, in a chat as many as may be; a random seed, so that a
// text can go on elsewhere. Error(invalid) in one sentence.
OpenAiRequest read_openai_request(const std::string& body, bool chat, const OpenAiLimits& limits);
OpenAiRequest read_openai_request(const nlohmann::json& body, bool chat, const OpenAiLimits& limits);

void write_prompt(const OpenAiPrompt& prompt, rpc::Prompt::Builder out);

}  // namespace pleat
