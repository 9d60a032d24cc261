#pragma once
// What turns a model's requests into tokens: its tokenizer and, where it has one, its chat template.
#include <ctime>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "core/text/chat_template.h"
#include "core/text/tokenizer.h"

namespace pleat {

struct ModelText {
  static ModelText open(const std::string& model);

  // The tokens of a conversation (OpenAI's messages; contents are texts or lists of text parts) with the beginning of
  // the assistant's answer. The template sees the keys of a message in their order. now: what it takes for the time.
  // Error(invalid) where the model has no usable template, or that refuses the conversation.
  std::vector<int32_t> chat_tokens(const nlohmann::ordered_json& messages, std::time_t now = std::time(nullptr)) const;

  Tokenizer tokenizer;
  std::optional<ChatTemplate> chat;
  std::string no_chat;  // why there is none
};

// The text of a message's "content": a text, a list of text parts, or null. Error(invalid) for anything else.
std::string message_text(const nlohmann::json& content);

}  // namespace pleat
