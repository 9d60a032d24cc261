#pragma once
// What OpenAI's API answers, piece by piece.
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "cluster/refusal.h"

namespace pleat {

// A token with its log probability; texts are bytes, of which a character may have several tokens.
struct ShownToken {
  std::string bytes;
  float logprob = 0;
  std::vector<std::pair<std::string, float>> best;  // best first
};

// The "logprobs" of a choice, or of what it grew by: {"tokens", "token_logprobs", "top_logprobs", "text_offset"}, or in
// a chat {"content"}. Null without tokens. first_offset: characters before the first of them.
nlohmann::ordered_json logprobs_json(bool chat, const std::vector<ShownToken>& tokens, int64_t first_offset);
// Characters of a text.
int64_t characters(const std::string& text);

// The prefix and 24 random digits.
std::string new_id(const std::string& prefix);

nlohmann::ordered_json usage_json(int64_t prompt_tokens, int64_t completion_tokens);

// On one line, in valid UTF-8 whatever the texts hold.
std::string dump(const nlohmann::ordered_json& value);

// An error as an HTTP status and a body {"error": {"message", "type", "param", "code"}}.
struct HttpError {
  int status = 500;
  std::string type, code, message;
  uint32_t retry_after_ms = 0;

  std::string body() const;
};

HttpError http_error(const Refusal& refusal);
HttpError http_error(const Error& error);
HttpError invalid_request(const std::string& message);

}  // namespace pleat
