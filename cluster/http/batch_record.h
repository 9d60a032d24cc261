#pragma once
// One line of a batch, in and out: OpenAI's batch records, and a short form of them.
#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

namespace pleat {

constexpr const char* kCompletionsUrl = "/v1/completions";
constexpr const char* kChatUrl = "/v1/chat/completions";

// What a line of the input asks for, or why it cannot be done.
struct BatchRecord {
  int64_t line = 0;       // from 1
  std::string custom_id;  // empty: the line has none that can be used
  bool chat = false;      // the answer is a message
  nlohmann::json body;    // of the request; see the error where there is one
  std::string error_code, error_message;
};

BatchRecord read_batch_record(const std::string& text, int64_t line);

// Lines of the output, without the newline, in valid UTF-8 whatever the input held. `response` is the body of an answer
// with this HTTP status.
std::string response_line(const BatchRecord& record, int status, const nlohmann::ordered_json& response);
// Keyed by custom_id, or by line ("line-7") where there is none, or where `by_line` says that it belongs to another.
std::string error_line(const BatchRecord& record, const std::string& code, const std::string& message, bool by_line);

}  // namespace pleat
