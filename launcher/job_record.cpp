#include "launcher/job_record.h"

#include "cluster/http/openai_format.h"
#include "core/checkpoint/json_file.h"
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

std::vector<ShownToken> shown(const Completion& completion, const Tokenizer& tokenizer) {
  std::vector<ShownToken> tokens;
  for (const TokenLogprob& entry : completion.logprobs) {
    ShownToken& token = tokens.emplace_back(ShownToken{tokenizer.piece(entry.token), entry.logprob, {}});
    for (const auto& [other, logprob] : entry.best) token.best.emplace_back(tokenizer.piece(other), logprob);
  }
  return tokens;
}

}  // namespace

JobRecord parse_record(const std::string& text, int64_t line, const SamplingOptions& defaults, const ModelText& model) {
  JobRecord record;
  record.line = line;
  json parsed;
  try {
    parsed = parse_json(text, concat("line ", line));
    PLEAT_REQUIRE(parsed.is_object(), "line ", line, " is not a JSON object");
  } catch (const Error& error) {
    record.error_code = "invalid_json";
    record.error_message = error.what();
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
  choice["logprobs"] = logprobs_json(chat, shown(completion, tokenizer), 0);
  return {{"id", (chat ? "chatcmpl-" : "cmpl-") + number},
          {"object", chat ? "chat.completion" : "text_completion"},
          {"model", model},
          {"choices", ordered_json::array({choice})},
          {"usage", usage_json(completion.prompt_tokens, generated)}};
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
