#include "cluster/http/batch_record.h"

#include "cluster/http/json_body.h"
#include "cluster/http/openai_format.h"
#include "kernels/check.h"

namespace pleat {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

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
  const json& body = record["body"];
  const char* const prompt = url == kChatUrl ? "messages" : "prompt";
  PLEAT_REQUIRE(!record.contains("url") || !body.is_object() || body.contains(prompt), "a record for \"", url,
                "\" needs '", prompt, "'");
  return body;
}

}  // namespace

BatchRecord read_batch_record(const std::string& text, int64_t line) {
  BatchRecord record;
  record.line = line;
  json parsed;
  try {
    parsed = read_object(text, concat("line ", line));
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
    record.body = body_of(parsed);
    record.chat = parsed.contains("url") ? parsed["url"] == kChatUrl
                                         : record.body.is_object() && record.body.contains("messages");
  } catch (const Error& error) {
    record.error_code = "invalid_request";
    record.error_message = error.what();
  }
  return record;
}

std::string response_line(const BatchRecord& record, int status, const ordered_json& response) {
  const std::string number = std::to_string(record.line);
  return dump({{"id", "batch_req_" + number},
               {"custom_id", record.custom_id},
               {"response", {{"status_code", status}, {"request_id", "req_" + number}, {"body", response}}},
               {"error", nullptr}});
}

std::string error_line(const BatchRecord& record, const std::string& code, const std::string& message, bool by_line) {
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
