#include "cluster/http/event_text.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "cluster/http/openai_format.h"
#include "kernels/check.h"

namespace pleat {
namespace {

constexpr const char* kNull = "null";
constexpr const char* kEventEnd = "}\n\n";

}  // namespace

std::string quoted(const std::string& text) {
  const bool plain =
      std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~' && c != '"' && c != '\\'; });
  return plain ? '"' + text + '"' : dump(text);
}

EventText::EventText(bool chat, bool with_usage, const std::string& id, int64_t created, const std::string& model)
    : chat_(chat),
      head_(concat("data: {\"id\":", quoted(id),
                   ",\"object\":", quoted(chat ? "chat.completion.chunk" : "text_completion"), ",\"created\":", created,
                   ",\"model\":", quoted(model), ",\"choices\":[")),
      tail_(concat(']', with_usage ? ",\"usage\":null" : "", kEventEnd)) {}

std::string EventText::opened(int index) const {
  return event(index, "\"delta\":{\"role\":\"assistant\",\"content\":\"\"}", kNull, kNull);
}

std::string EventText::grown(int index, const std::string& text, const std::string& logprobs) const {
  const std::string part = chat_ ? "\"delta\":{\"content\":" + quoted(text) + '}' : "\"text\":" + quoted(text);
  return event(index, part, logprobs, kNull);
}

std::string EventText::ended(int index, const std::string& reason) const {
  return event(index, chat_ ? "\"delta\":{}" : "\"text\":\"\"", kNull, quoted(reason));
}

std::string EventText::used(const std::string& usage) const { return head_ + "],\"usage\":" + usage + kEventEnd; }

std::string EventText::event(int index, const std::string& part, const std::string& logprobs,
                             const std::string& reason) const {
  const std::string number = std::to_string(index);
  std::string text;
  text.reserve(head_.size() + number.size() + part.size() + logprobs.size() + reason.size() + tail_.size() + 48);
  text += head_;
  text += "{\"index\":";
  text += number;
  text += ',';
  text += part;
  text += ",\"logprobs\":";
  text += logprobs;
  text += ",\"finish_reason\":";
  text += reason;
  text += '}';
  return text += tail_;
}

}  // namespace pleat
