#include "launcher/job_record.h"

#include "cluster/http/openai_format.h"
#include "kernels/check.h"
#include "launcher/record_fields.h"

namespace pleat {
namespace {

using nlohmann::ordered_json;

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
  JobRecord record{read_batch_record(text, line), {}};
  if (!record.error_code.empty()) return record;
  const auto refuse = [&](const char* why) {
    record.error_code = "invalid_request";
    record.error_message = why;
  };
  try {
    Request request = request_from_body(record.body, defaults, model);
    request.id = record.custom_id;
    record.request = std::move(request);
  } catch (const Error& error) {
    refuse(error.what());
  } catch (const nlohmann::json::exception& error) {  // whatever a line holds, the others go on
    refuse(error.what());
  }
  record.body = nullptr;  // a text is written without it
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
  return response_line(record, 200,
                       completion_body(std::to_string(record.line), record.chat, completion, model, tokenizer));
}

}  // namespace pleat
