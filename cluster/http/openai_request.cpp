#include "cluster/http/openai_request.h"

#include <algorithm>
#include <array>
#include <limits>
#include <random>

#include <nlohmann/json.hpp>

#include "cluster/http/json_body.h"
#include "cluster/http/sampling_fields.h"
#include "cluster/messages.h"
#include "kernels/check.h"

namespace pleat {
namespace {

using nlohmann::json;

constexpr int kCompletionTokens = 16;  // OpenAI's default

bool flag(const json& object, const char* name) {
  const json value = object.value(name, json());
  PLEAT_REQUIRE(value.is_null() || value.is_boolean(), "'", name, "' must be true or false");
  return value.is_boolean() && value.get<bool>();
}

std::vector<int32_t> read_tokens(const json& list) {
  std::vector<int32_t> tokens;
  for (const json& token : list) {
    PLEAT_REQUIRE(token.is_number_integer(), "'prompt' holds something that is neither a text nor token ids");
    const auto id = token.get<int64_t>();
    PLEAT_REQUIRE(id >= 0 && id <= std::numeric_limits<int32_t>::max(), "'prompt' holds token id ", id);
    tokens.push_back(int32_t(id));
  }
  return tokens;
}

std::vector<OpenAiPrompt> read_prompts(const json& body, int64_t most) {
  static const json none;
  const auto found = body.find("prompt");
  const json& prompt = found == body.end() ? none : *found;  // it may be long
  PLEAT_REQUIRE(prompt.is_string() || prompt.is_array(), "'prompt' must be a text, token ids, or a list of these");
  if (prompt.is_string()) return {prompt.get<std::string>()};
  PLEAT_REQUIRE(!prompt.empty(), "'prompt' is an empty list");
  if (prompt[0].is_number()) return {read_tokens(prompt)};
  PLEAT_REQUIRE(int64_t(prompt.size()) <= most, "the request asks for more than ", most, " texts");
  std::vector<OpenAiPrompt> prompts;
  for (const json& one : prompt) {
    PLEAT_REQUIRE(one.is_string() || one.is_array(), "'prompt' holds something that is neither a text nor token ids");
    prompts.push_back(one.is_string() ? OpenAiPrompt(one.get<std::string>()) : OpenAiPrompt(read_tokens(one)));
  }
  return prompts;
}

OpenAiPrompt read_conversation(const json& body) {
  const json messages = body.value("messages", json());
  PLEAT_REQUIRE(messages.is_array() && !messages.empty(), "'messages' must be a list of messages");
  std::vector<std::pair<std::string, std::string>> conversation;
  for (const json& message : messages) {
    PLEAT_REQUIRE(message.is_object() && message.contains("role") && message["role"].is_string(),
                  "each of 'messages' must be an object with a 'role'");
    for (const auto& [name, value] : message.items())
      PLEAT_REQUIRE(name == "role" || name == "content" || value.is_null(), "'", name,
                    "' of a message is not supported");
    conversation.emplace_back(message["role"].get<std::string>(), message_text(message.value("content", json())));
  }
  return conversation;
}

// With its NUL characters.
kj::StringPtr ptr(const std::string& text) { return {text.c_str(), text.size()}; }

uint64_t random_seed() {
  std::random_device device;
  return uint64_t(device()) << 32 | device();
}

// As vLLM's, where a lower one goes first.
int read_priority(const json& body) {
  constexpr int kMost = std::numeric_limits<int16_t>::max();
  const json priority = body.value("priority", json());
  PLEAT_REQUIRE(priority.is_null() || (priority.is_number_integer() && priority >= -kMost && priority <= kMost),
                "'priority' must be an integer from ", -kMost, " to ", kMost);
  return priority.is_null() ? 0 : -priority.get<int>();
}

SamplingOptions read_sampling(const json& body, bool chat, const OpenAiLimits& limits) {
  const std::array<std::string_view, 6> others = {
      chat ? "messages" : "prompt", "n", "stream", "stream_options", "model", "priority"};
  SamplingOptions defaults;
  defaults.temperature = 1;
  defaults.max_tokens = chat ? limits.max_tokens : std::min(kCompletionTokens, limits.max_tokens);
  defaults.seed = random_seed();
  SamplingOptions sampling = sampling_from_body(body, chat, defaults, others);
  PLEAT_REQUIRE(sampling.max_tokens >= 1 && sampling.max_tokens <= limits.max_tokens, "max_tokens is ",
                sampling.max_tokens, ", expected 1 to ", limits.max_tokens);
  return sampling;
}

}  // namespace

OpenAiRequest read_openai_request(const std::string& text, bool chat, const OpenAiLimits& limits) {
  return read_openai_request(read_object(text, "the body"), chat, limits);
}

OpenAiRequest read_openai_request(const json& body, bool chat, const OpenAiLimits& limits) {
  PLEAT_REQUIRE(body.is_object(), "'body' must be an object");
  OpenAiRequest request;
  request.chat = chat;
  request.stream = flag(body, "stream");
  const json options = body.value("stream_options", json());
  PLEAT_REQUIRE(options.is_null() || (options.is_object() && request.stream),
                "'stream_options' is an object, for requests that stream");
  request.include_usage = options.is_object() && flag(options, "include_usage");
  const json model = body.value("model", json());
  PLEAT_REQUIRE(model.is_null() || model.is_string(), "'model' must be a text");
  if (model.is_string()) request.model = model.get<std::string>();
  if (chat)
    request.prompts.push_back(read_conversation(body));
  else
    request.prompts = read_prompts(body, limits.choices);
  const json n = body.value("n", json());
  PLEAT_REQUIRE(n.is_null() || (n.is_number_integer() && n >= 1 && n <= limits.choices), "'n' must be 1 to ",
                limits.choices);
  if (!n.is_null()) request.n = n.get<int>();
  PLEAT_REQUIRE(request.choices() <= limits.choices, "the request asks for more than ", limits.choices, " texts");
  request.sampling = read_sampling(body, chat, limits);
  request.priority = read_priority(body);
  return request;
}

int64_t OpenAiRequest::least_prompt_tokens() const {
  auto least = std::numeric_limits<int64_t>::max();
  for (const OpenAiPrompt& prompt : prompts) {
    const auto* tokens = std::get_if<std::vector<int32_t>>(&prompt);
    least = std::min(least, tokens ? int64_t(tokens->size()) : 0);
  }
  return least;
}

void write_prompt(const OpenAiPrompt& prompt, rpc::Prompt::Builder out) {
  if (const auto* text = std::get_if<std::string>(&prompt)) return out.setText(ptr(*text));
  if (const auto* tokens = std::get_if<std::vector<int32_t>>(&prompt))
    return write_tokens(*tokens, out.initTokens(uint32_t(tokens->size())));
  const auto& conversation = std::get<2>(prompt);
  auto messages = out.initMessages(uint32_t(conversation.size()));
  for (uint32_t i = 0; i < messages.size(); ++i) {
    messages[i].setRole(ptr(conversation[i].first));
    messages[i].setContent(ptr(conversation[i].second));
  }
}

}  // namespace pleat
