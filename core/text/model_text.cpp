#include "core/text/model_text.h"

#include "core/checkpoint/tokenizer_files.h"
#include "kernels/check.h"

namespace pleat {
namespace {

// Templates expect texts.
nlohmann::ordered_json plain_message(const nlohmann::ordered_json& message) {
  PLEAT_REQUIRE(message.is_object() && message.contains("role") && message["role"].is_string(),
                "each of 'messages' must be an object with a 'role'");
  nlohmann::ordered_json out = message;
  const nlohmann::json content = message.value("content", nlohmann::ordered_json());
  std::string text = message_text(content);
  if (content.is_array()) out["content"] = std::move(text);
  return out;
}

}  // namespace

ModelText ModelText::open(const std::string& model) {
  const TokenizerFiles files = read_tokenizer_files(model);
  return with_context(concat(std::filesystem::path(model)), [&] {
    ModelText text{Tokenizer::from_json(files.tokenizer, files.config), std::nullopt, "the model has no chat template"};
    try {
      text.chat = ChatTemplate::from_json(files.config);
    } catch (const Error& error) {  // only those who chat need it
      text.no_chat = concat(std::filesystem::path(model), ": ", error.what());
    }
    return text;
  });
}

std::string message_text(const nlohmann::json& content) {
  if (content.is_null()) return {};
  if (content.is_string()) return content.get<std::string>();
  PLEAT_REQUIRE(content.is_array(), "a message's 'content' must be a text or a list of parts");
  std::string text;
  for (const nlohmann::json& part : content) {
    PLEAT_REQUIRE(part.is_object() && part.contains("type") && part["type"] == "text" && part.contains("text") &&
                      part["text"].is_string(),
                  "a part of a message's 'content' is not of type \"text\"");
    text += part["text"].get<std::string>();
  }
  return text;
}

std::vector<int32_t> ModelText::chat_tokens(const nlohmann::ordered_json& messages, std::time_t now) const {
  PLEAT_REQUIRE(chat, no_chat);
  PLEAT_REQUIRE(messages.is_array() && !messages.empty(), "'messages' must be a list of messages");
  nlohmann::ordered_json plain = nlohmann::ordered_json::array();
  for (const nlohmann::ordered_json& message : messages) plain.push_back(plain_message(message));
  return tokenizer.encode(chat->render(plain, true, {}, now));
}

}  // namespace pleat
