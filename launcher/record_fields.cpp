#include "launcher/record_fields.h"

#include <array>

#include "cluster/http/sampling_fields.h"
#include "kernels/check.h"

namespace pleat {
namespace {

using nlohmann::json;

std::vector<int32_t> prompt_tokens(const json& prompt, const Tokenizer& tokenizer) {
  if (prompt.is_string()) return tokenizer.encode_with_special(prompt.get_ref<const std::string&>());
  PLEAT_REQUIRE(prompt.is_array(), "'prompt' must be a string or an array of token ids");
  if (prompt.size() == 1 && (prompt[0].is_string() || prompt[0].is_array())) return prompt_tokens(prompt[0], tokenizer);
  std::vector<int32_t> tokens;
  for (const json& id : prompt) {
    PLEAT_REQUIRE(!id.is_string() && !id.is_array(), "'prompt' holds several prompts; give each its own record");
    PLEAT_REQUIRE(id.is_number_integer(), "'prompt' must be a string or an array of token ids");
    const auto token = id.get<int64_t>();
    PLEAT_REQUIRE(token >= 0 && token < tokenizer.vocab_size(), "'prompt' holds token id ", token,
                  ", the vocabulary has ", tokenizer.vocab_size());
    tokens.push_back(int32_t(token));
  }
  return tokens;
}

}  // namespace

Request request_from_body(const json& body, const SamplingOptions& defaults, const ModelText& text) {
  PLEAT_REQUIRE(body.is_object(), "'body' must be an object");
  const bool chat = body.contains("messages");
  PLEAT_REQUIRE(chat || body.contains("prompt"), "'prompt' is missing");
  PLEAT_REQUIRE(!chat || !body.contains("prompt"), "a record has 'messages' or a 'prompt', not both");
  constexpr std::array<std::string_view, 2> prompts = {"prompt", "messages"};
  Request request;
  request.prompt = chat ? text.chat_tokens(body["messages"]) : prompt_tokens(body["prompt"], text.tokenizer);
  request.sampling = sampling_from_body(body, chat, defaults, prompts);
  return request;
}

}  // namespace pleat
