#pragma once
// One line of a batch job on the ranks that run it.
#include <cstdint>
#include <optional>
#include <string>

#include "cluster/http/batch_record.h"
#include "core/engine/request.h"
#include "core/text/model_text.h"

namespace pleat {

// With what the scheduler is asked for; absent: see the error.
struct JobRecord : BatchRecord {
  std::optional<Request> request;
};

// `defaults` stand for the fields a record does not give.
JobRecord parse_record(const std::string& text, int64_t line, const SamplingOptions& defaults, const ModelText& model);

// A line of the output, without the newline.
std::string completion_line(const JobRecord& record, const Completion& completion, const std::string& model,
                            const Tokenizer& tokenizer);

// The body of a response: OpenAI's text_completion or chat.completion object.
nlohmann::ordered_json completion_body(const std::string& number, bool chat, const Completion& completion,
                                       const std::string& model, const Tokenizer& tokenizer);

}  // namespace pleat
