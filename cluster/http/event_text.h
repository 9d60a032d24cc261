#pragma once
// The events of a streamed answer, as they go out. What all of one answer have in common is written once: a token costs
// one string.
#include <cstdint>
#include <string>

namespace pleat {

// As JSON, in valid UTF-8 whatever the text holds.
std::string quoted(const std::string& text);

class EventText {
 public:
  // with_usage: each event has the field, which is null before the last one.
  EventText(bool chat, bool with_usage, const std::string& id, int64_t created, const std::string& model);

  // A chat's first event of a text.
  std::string opened(int index) const;
  // What a text grew by; logprobs as JSON.
  std::string grown(int index, const std::string& text, const std::string& logprobs) const;
  std::string ended(int index, const std::string& reason) const;
  // After all texts; usage as JSON.
  std::string used(const std::string& usage) const;

 private:
  std::string event(int index, const std::string& part, const std::string& logprobs, const std::string& reason) const;

  const bool chat_;
  std::string head_, tail_;  // around a choice
};

}  // namespace pleat
