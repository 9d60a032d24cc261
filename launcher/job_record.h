#pragma once
// One line of a batch job, in and out: OpenAI's batch records, and a short form of them.
#include <cstdint>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "core/engine/request.h"
#include "core/text/model_text.h"

namespace pleat {

// What a line of the input asks for, or why it cannot be done.
struct JobRecord {
  int64_t line = 0;                // from 1
  std::string custom_id;           // empty: the line has none that can be used
  std::optional<Request> request;  // absent: see the error
  bool chat = false;               // the answer is a message
  std::string error_code, error_message;
};

// `defaults` stand for the fields a record does not give.
JobRecord parse_record(const std::string& text, int64_t line, const SamplingOptions& defaults, const ModelText& model);

// Lines of the output, without the newline, in valid UTF-8 whatever the input held.
std::string completion_line(const JobRecord& record, const Completion& completion, const std::string& model,
                            const Tokenizer& tokenizer);
// Keyed by custom_id, or by line ("line-7") where there is none, or where `by_line` says that it belongs to another.
std::string error_line(const JobRecord& record, const std::string& code, const std::string& message, bool by_line);

// The body of a response: OpenAI's text_completion or chat.completion object.
nlohmann::ordered_json completion_body(const std::string& number, bool chat, const Completion& completion,
                                       const std::string& model, const Tokenizer& tokenizer);

}  // namespace pleat
