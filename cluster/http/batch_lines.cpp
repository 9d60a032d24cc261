#include "cluster/http/batch_lines.h"

#include <limits>

#include "kernels/check.h"

namespace pleat {
namespace {

constexpr int kLook = 64;                // lines
constexpr unsigned kOwnersAlone = 0600;  // mode of what a batch writes
constexpr int kPriority = std::numeric_limits<int16_t>::min();

OpenAiRequest request_of(const BatchRecord& record, const BatchPlan& plan) {
  PLEAT_REQUIRE(record.chat == plan.chat, "the batch is for ", plan.chat ? kChatUrl : kCompletionsUrl);
  OpenAiRequest request = read_openai_request(record.body, record.chat, plan.limits);
  PLEAT_REQUIRE(!request.stream, "'stream' is not for batches");
  request.priority = kPriority;
  return request;
}

}  // namespace

BatchLines::BatchLines(const BatchPlan& plan)
    : plan_(plan),
      input_(plan.input, plan.longest),
      output_(plan.output, true, kOwnersAlone),
      errors_(plan.errors, true, kOwnersAlone) {
  PLEAT_REQUIRE(input_.good(), "the input file cannot be read");
}

std::optional<BatchLine> BatchLines::next() {
  std::string text;
  for (int i = 0; i < kLook; ++i) {
    BatchRecord record;
    ended_ = !input_.next(text, record.line);
    if (ended_) return std::nullopt;
    if (input_.cut()) {
      record.error_code = "invalid_request";
      record.error_message = concat("line ", record.line, " has more than ", plan_.longest, " bytes");
    } else {
      record = read_batch_record(text, record.line);
    }
    if (auto line = left_of(std::move(record))) return line;
  }
  return std::nullopt;
}

std::optional<BatchLine> BatchLines::left_of(BatchRecord record) {
  const auto failed = [&](const std::string& code, const std::string& message, bool by_line = false) {
    std::optional<BatchLine> line;
    if ((by_line || record.custom_id.empty()) && errors_.holds_line(record.line)) return line;
    line.emplace().error = error_line(record, code, message, by_line);
    return line;
  };
  if (record.custom_id.empty()) return failed(record.error_code, record.error_message);
  if (!seen_.insert(record.custom_id).second)
    return failed("duplicate_custom_id",
                  concat("line ", record.line, ": custom_id '", record.custom_id, "' was used by an earlier line"),
                  true);
  if (output_.holds(record.custom_id) || errors_.holds(record.custom_id)) return std::nullopt;
  if (!record.error_code.empty()) return failed(record.error_code, record.error_message);
  try {
    BatchLine line;
    line.request = request_of(record, plan_);
    record.body = nullptr;
    line.record = std::move(record);
    return line;
  } catch (const std::exception& error) {  // whatever is wrong with one line, the others go on
    return failed("invalid_request", error.what());
  }
}

}  // namespace pleat
