#include "tests/cluster/simulation/told_texts.h"

#include <nlohmann/json.hpp>

namespace pleat::test {

using nlohmann::json;

std::string openai_body(const ClientPlan& plan) {
  const SamplingOptions& sampling = plan.request.sampling;
  json body = {{"prompt", plan.request.prompt},
               {"max_tokens", sampling.max_tokens},
               {"temperature", sampling.temperature},
               {"top_k", sampling.top_k},
               {"repetition_penalty", sampling.repetition_penalty},
               {"seed", sampling.seed},
               {"ignore_eos", sampling.ignore_eos},
               {"priority", -plan.request.priority},
               {"n", plan.n},
               {"stream", plan.streams}};
  if (!sampling.stop.empty()) body["stop"] = sampling.stop;
  if (sampling.logprobs >= 0) body["logprobs"] = sampling.logprobs;
  if (plan.streams && plan.wants_usage) body["stream_options"] = {{"include_usage", true}};
  return body.dump();
}

ToldTexts::ToldTexts(const ClientPlan& plan) : plan_(plan), texts_(size_t(plan.n)) {
  Request request = plan.request;
  for (Text& text : texts_) {
    text.whole = whole_text(request);
    ++request.sampling.seed;
  }
}

std::string ToldTexts::take(std::string_view bytes) {
  held_ += bytes;
  if (!plan_.streams) return "";
  begun_ = true;
  for (size_t end = held_.find("\n\n"); end != std::string::npos; end = held_.find("\n\n")) {
    const std::string event = held_.substr(0, end);
    held_.erase(0, end + 2);
    if (std::string wrong = read_event(event); !wrong.empty()) return wrong;
  }
  return "";
}

std::string ToldTexts::end() {
  if (plan_.streams) return held_.empty() && done_ ? "" : "the stream ends in the middle";
  const json answer = json::parse(held_, nullptr, false);
  if (answer.is_discarded() || answer["choices"].size() != texts_.size()) return "the answer is none: " + held_;
  for (const json& choice : answer["choices"])
    if (std::string wrong = read_choice(choice); !wrong.empty()) return wrong;
  if (std::string wrong = read_usage(answer["usage"]); !wrong.empty()) return wrong;
  return all_ended();
}

std::string ToldTexts::take_error(const std::string& body) {
  const json answer = json::parse(body, nullptr, false);
  if (!answer.is_object() || !answer.contains("error") || !answer["error"]["code"].is_string())
    return "the error is none: " + body;
  code_ = answer["error"]["code"];
  message_ = answer["error"]["message"];
  return "";
}

std::string ToldTexts::read_event(std::string_view event) {
  constexpr std::string_view kData = "data: ";
  if (done_) return "an event after the last one";
  if (!event.starts_with(kData)) return "a line that is no event";
  event.remove_prefix(kData.size());
  if (event == "[DONE]") {
    done_ = true;
    if (used_ != plan_.wants_usage) return "the usage is not what was asked for";
    return all_ended();
  }
  const json said = json::parse(event, nullptr, false);
  if (!said.is_object()) return "an event is no object: " + std::string(event);
  if (said.contains("error")) {
    done_ = true;
    return take_error(std::string(event));
  }
  if (!said["choices"].empty()) return used_ ? "a choice after the usage" : read_choice(said["choices"][0]);
  return read_usage(said["usage"]);
}

std::string ToldTexts::read_choice(const json& choice) {
  const size_t index = choice["index"];
  if (index >= texts_.size()) return "there is no text " + std::to_string(index);
  Text& text = texts_[index];
  if (text.ended) return "a text grows after its end";
  text.text += choice["text"];
  if (!text.whole.text.starts_with(text.text)) return "the text is wrong: " + text.text;
  if (const json& logprobs = choice["logprobs"]; !logprobs.is_null()) {
    if (plan_.request.sampling.logprobs < 0) return "there are log probabilities that nobody wants";
    const size_t count = logprobs["token_logprobs"].size();
    if (logprobs["tokens"].size() != count || logprobs["top_logprobs"].size() != count) return "the lists differ";
    text.tokens += count;
    tokens_ += count;
  }
  if (choice["finish_reason"].is_null()) return plan_.streams ? "" : "a text does not end";
  text.ended = true;
  const bool counts = plan_.request.sampling.logprobs < 0 || text.tokens == text.whole.tokens.size();
  if (text.text == text.whole.text && counts && choice["finish_reason"] == text.whole.finish_reason) return "";
  return "a text ends at " + std::to_string(text.tokens) + " tokens: " + text.text;
}

std::string ToldTexts::read_usage(const json& usage) {
  if (std::exchange(used_, true)) return "the usage comes twice";
  size_t tokens = 0;
  for (const Text& text : texts_) tokens += text.whole.tokens.size();
  const size_t prompt = plan_.request.prompt.size();
  const json expected = {{"prompt_tokens", prompt}, {"completion_tokens", tokens}, {"total_tokens", prompt + tokens}};
  return usage == expected ? "" : "the usage is " + usage.dump() + ", not " + expected.dump();
}

std::string ToldTexts::all_ended() const {
  for (const Text& text : texts_)
    if (!text.ended) return "a text does not end";
  return "";
}

}  // namespace pleat::test
