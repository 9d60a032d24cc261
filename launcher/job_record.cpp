#include "launcher/job_record.h"

#include "kernels/check.h"
#include "launcher/record_fields.h"

namespace pleat {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr const char* kCompletionsUrl = "/v1/completions";
constexpr const char* kChatUrl = "/v1/chat/completions";

// The request's fields: the body of a batch record, or the record itself without its id.
json body_of(const json& record) {
  if (!record.contains("body") && !record.contains("url") && !record.contains("method")) {
    json body = record;
    body.erase("custom_id");
    return body;
  }
  PLEAT_REQUIRE(!record.contains("method") || record["method"] == "POST", "'method' must be \"POST\"");
  PLEAT_REQUIRE(!record.contains("url") || record["url"].is_string(), "'url' must be a string");
  const std::string url = record.value("url", kCompletionsUrl);
  PLEAT_REQUIRE(url == kCompletionsUrl || url == kChatUrl, "'url' must be \"", kCompletionsUrl, "\" or \"", kChatUrl,
                "\"");
  PLEAT_REQUIRE(record.contains("body"), "'body' is missing");
  const bool chat = record["body"].is_object() && record["body"].contains("messages");
  PLEAT_REQUIRE(!record.contains("url") || chat == (url == kChatUrl), "a record for \"", url, "\" needs ",
                url == kChatUrl ? "'messages'" : "a 'prompt'");
  return record["body"];
}

std::string dump(const ordered_json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

bool valid_utf8(const std::string& text) {
  try {
    json(text).dump();
    return true;
  } catch (const json::type_error&) {
    return false;
  }
}

// A token that is a part of a character is written as its bytes, as OpenAI does: "bytes:\xe2\x80".
std::string printable(const std::string& piece) {
  if (valid_utf8(piece)) return piece;
  constexpr char digits[] = "0123456789abcdef";
  std::string text = "bytes:";
  for (const unsigned char byte : piece) text += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
  return text;
}

ordered_json logprobs_of(const Completion& completion, const Tokenizer& tokenizer) {
  if (completion.logprobs.empty()) return nullptr;
  ordered_json tokens = ordered_json::array(), chosen = tokens, best = tokens, offsets = tokens;
  int64_t offset = 0;  // in characters
  for (const TokenLogprob& entry : completion.logprobs) {
    const std::string piece = tokenizer.piece(entry.token);
    tokens.push_back(printable(piece));
    chosen.push_back(entry.logprob);
    offsets.push_back(offset);
    for (const char byte : piece) offset += (static_cast<unsigned char>(byte) & 0xc0) != 0x80;
    ordered_json top = ordered_json::object();
    for (const auto& [token, logprob] : entry.best) top[printable(tokenizer.piece(token))] = logprob;
    best.push_back(std::move(top));
  }
  return {{"tokens", tokens}, {"token_logprobs", chosen}, {"top_logprobs", best}, {"text_offset", offsets}};
}

// {"content": [{"token", "logprob", "top_logprobs"}]}
ordered_json chat_logprobs_of(const Completion& completion, const Tokenizer& tokenizer) {
  if (completion.logprobs.empty()) return nullptr;
  const auto entry_of = [&](int32_t token, float logprob) {
    return ordered_json{{"token", printable(tokenizer.piece(token))}, {"logprob", logprob}};
  };
  ordered_json content = ordered_json::array();
  for (const TokenLogprob& entry : completion.logprobs) {
    content.push_back(entry_of(entry.token, entry.logprob));
    ordered_json best = ordered_json::array();
    for (const auto& [token, logprob] : entry.best) best.push_back(entry_of(token, logprob));
    content.back()["top_logprobs"] = best;
  }
  return {{"content", content}};
}

}  // namespace

JobRecord parse_record(const std::string& text, int64_t line, const SamplingOptions& defaults, const ModelText& model) {
  JobRecord record;
  record.line = line;
  const json parsed = json::parse(text, nullptr, false);
  if (!parsed.is_object()) {
    record.error_code = "invalid_json";
    record.error_message = concat("line ", line, parsed.is_discarded() ? " is not JSON" : " is not a JSON object");
    return record;
  }
  try {
    PLEAT_REQUIRE(parsed.contains("custom_id"), "'custom_id' is missing");
    PLEAT_REQUIRE(parsed["custom_id"].is_string() && parsed["custom_id"] != "",
                  "'custom_id' must be a non-empty string");
    record.custom_id = parsed["custom_id"].get<std::string>();
    const json body = body_of(parsed);
    record.chat = body.is_object() && body.contains("messages");
    Request request = request_from_body(body, defaults, model);
    request.id = record.custom_id;
    record.request = std::move(request);
  } catch (const Error& error) {
    record.error_code = "invalid_request";
    record.error_message = error.what();
  }
  return record;
}

ordered_json completion_body(const std::string& number, bool chat, const Completion& completion,
                             const std::string& model, const Tokenizer& tokenizer) {
  const auto generated = int64_t(completion.tokens.size());
  ordered_json choice = {{"index", 0}};
  if (chat)
    choice["message"] = {{"role", "assistant"}, {"content", completion.text}};
  else
    choice["text"] = completion.text;
  choice["finish_reason"] = completion.finish_reason;
  choice["logprobs"] = chat ? chat_logprobs_of(completion, tokenizer) : logprobs_of(completion, tokenizer);
  return {{"id", (chat ? "chatcmpl-" : "cmpl-") + number},
          {"object", chat ? "chat.completion" : "text_completion"},
          {"model", model},
          {"choices", ordered_json::array({choice})},
          {"usage",
           {{"prompt_tokens", completion.prompt_tokens},
            {"completion_tokens", generated},
            {"total_tokens", completion.prompt_tokens + generated}}}};
}

std::string completion_line(const JobRecord& record, const Completion& completion, const std::string& model,
                            const Tokenizer& tokenizer) {
  const std::string number = std::to_string(record.line);
  return dump({{"id", "batch_req_" + number},
               {"custom_id", record.custom_id},
               {"response",
                {{"status_code", 200},
                 {"request_id", "req_" + number},
                 {"body", completion_body(number, record.chat, completion, model, tokenizer)}}},
               {"error", nullptr}});
}

std::string error_line(const JobRecord& record, const std::string& code, const std::string& message, bool by_line) {
  ordered_json error = {{"code", code}, {"message", message}};
  by_line = by_line || record.custom_id.empty();
  if (by_line) error["line"] = record.line;
  const std::string number = std::to_string(record.line);
  return dump({{"id", "batch_req_" + number},
               {"custom_id", by_line ? "line-" + number : record.custom_id},
               {"response", nullptr},
               {"error", error}});
}

}  // namespace pleat
