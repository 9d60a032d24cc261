#pragma once
// From a conversation to the prompt that a chat model was trained on: the model's own template, a Jinja text
// (https://huggingface.co/docs/transformers/chat_templating).
#include <ctime>
#include <memory>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

namespace pleat {

// Immutable; copies share it; safe to use from several threads.
class ChatTemplate {
 public:
  // Error(invalid) with line and reason where the template uses what is not known. bos, eos: the tokens' texts, where
  // the model has them.
  ChatTemplate(const std::string& source, std::optional<std::string> bos, std::optional<std::string> eos);
  // Of a model whose tokenizer_config.json this is; nullopt where it has none.
  static std::optional<ChatTemplate> from_json(const nlohmann::json& config);

  // messages: [{"role": ..., "content": ...}, ...]. variables: further values for the template ("tools").
  // now: what strftime_now() shows, in UTC. Error(invalid) where the template refuses the conversation, in its own
  // words.
  std::string render(const nlohmann::ordered_json& messages, bool add_generation_prompt,
                     const nlohmann::ordered_json& variables = {}, std::time_t now = std::time(nullptr)) const;

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

}  // namespace pleat
