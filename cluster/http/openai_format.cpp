#include "cluster/http/openai_format.h"

#include <cstdio>
#include <random>

#include <nlohmann/json.hpp>

#include "core/text/utf8.h"

namespace pleat {
namespace {

using nlohmann::ordered_json;

// A token that is a part of a character is written as its bytes, as OpenAI does: "bytes:\xe2\x80".
std::string printable(const std::string& bytes) {
  if (valid_utf8_prefix(bytes) == bytes.size()) return bytes;
  constexpr char digits[] = "0123456789abcdef";
  std::string text = "bytes:";
  for (const unsigned char byte : bytes) text += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
  return text;
}

ordered_json completion_logprobs(const std::vector<ShownToken>& tokens, int64_t offset) {
  ordered_json texts = ordered_json::array(), chosen = texts, best = texts, offsets = texts;
  for (const ShownToken& token : tokens) {
    texts.push_back(printable(token.bytes));
    chosen.push_back(token.logprob);
    offsets.push_back(offset);
    offset += characters(token.bytes);
    ordered_json top = ordered_json::object();
    for (const auto& [bytes, logprob] : token.best) top[printable(bytes)] = logprob;
    best.push_back(std::move(top));
  }
  return {{"tokens", texts}, {"token_logprobs", chosen}, {"top_logprobs", best}, {"text_offset", offsets}};
}

ordered_json chat_token(const std::string& bytes, float logprob) {
  ordered_json numbers = ordered_json::array();
  for (const unsigned char byte : bytes) numbers.push_back(byte);
  return {{"token", printable(bytes)}, {"logprob", logprob}, {"bytes", numbers}};
}

ordered_json chat_logprobs(const std::vector<ShownToken>& tokens) {
  ordered_json content = ordered_json::array();
  for (const ShownToken& token : tokens) {
    ordered_json best = ordered_json::array();
    for (const auto& [bytes, logprob] : token.best) best.push_back(chat_token(bytes, logprob));
    content.push_back(chat_token(token.bytes, token.logprob));
    content.back()["top_logprobs"] = std::move(best);
  }
  return {{"content", content}};
}

}  // namespace

int64_t characters(const std::string& text) {
  int64_t count = 0;
  for (const char byte : text) count += (static_cast<unsigned char>(byte) & 0xc0) != 0x80;
  return count;
}

ordered_json logprobs_json(bool chat, const std::vector<ShownToken>& tokens, int64_t first_offset) {
  if (tokens.empty()) return nullptr;
  return chat ? chat_logprobs(tokens) : completion_logprobs(tokens, first_offset);
}

std::string new_id(const std::string& prefix) {
  std::random_device device;
  char digits[25];
  std::snprintf(digits, sizeof digits, "%08x%08x%08x", device(), device(), device());
  return prefix + digits;
}

ordered_json usage_json(int64_t prompt_tokens, int64_t completion_tokens) {
  return {{"prompt_tokens", prompt_tokens},
          {"completion_tokens", completion_tokens},
          {"total_tokens", prompt_tokens + completion_tokens}};
}

std::string dump(const ordered_json& value) {
  return value.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

std::string HttpError::body() const {
  return dump({{"error", {{"message", message}, {"type", type}, {"param", nullptr}, {"code", code}}}});
}

HttpError invalid_request(const std::string& message) { return {400, "invalid_request_error", "badRequest", message}; }

HttpError http_error(const Error& error) {
  if (error.kind() == ErrorKind::invalid) return invalid_request(error.what());
  return {500, "server_error", "internal", error.what()};
}

HttpError http_error(const Refusal& refusal) {
  HttpError error{500, "server_error", name_of(refusal.code()), refusal.what(), refusal.retry_after_ms()};
  switch (refusal.kind()) {
    case ErrorKind::invalid:
    case ErrorKind::unimplemented:
      error.status = 400;
      error.type = "invalid_request_error";
      break;
    case ErrorKind::overloaded:
      error.status = 429;
      error.type = "rate_limit_error";
      break;
    case ErrorKind::disconnected:
      error.status = 503;
      break;
    default:
      break;
  }
  return error;
}

}  // namespace pleat
