#include "core/text/chat_template.h"

#include "core/text/jinja_evaluator.h"
#include "core/text/jinja_syntax.h"
#include "kernels/check.h"

namespace pleat {
namespace {

// tokenizer_config.json has one template, or a list of {"name", "template"}.
std::optional<std::string> template_of(const nlohmann::json& config) {
  if (!config.is_object() || !config.contains("chat_template")) return std::nullopt;
  const nlohmann::json& chosen = config["chat_template"];
  if (chosen.is_string()) return chosen.get<std::string>();
  for (const nlohmann::json& one : chosen.is_array() ? chosen : nlohmann::json::array())
    if (one.is_object() && one.contains("name") && one["name"] == "default" && one.contains("template") &&
        one["template"].is_string())
      return one["template"].get<std::string>();
  PLEAT_REQUIRE(chosen.is_null(), "tokenizer_config.json: chat_template has no template named 'default'");
  return std::nullopt;
}

std::optional<std::string> token_text(const nlohmann::json& config, const char* key) {
  if (!config.is_object() || !config.contains(key)) return std::nullopt;
  const nlohmann::json& token = config[key];
  if (token.is_string()) return token.get<std::string>();
  if (token.is_object() && token.contains("content") && token["content"].is_string())
    return token["content"].get<std::string>();
  return std::nullopt;
}

}  // namespace

struct ChatTemplate::State {
  std::vector<jinja::Statement> statements;
  std::optional<std::string> bos, eos;
};

ChatTemplate::ChatTemplate(const std::string& source, std::optional<std::string> bos, std::optional<std::string> eos) {
  auto state = std::make_shared<State>();
  state->statements = jinja::parse(source);
  state->bos = std::move(bos);
  state->eos = std::move(eos);
  state_ = std::move(state);
}

std::optional<ChatTemplate> ChatTemplate::from_json(const nlohmann::json& config) {
  const auto source = template_of(config);
  if (!source) return std::nullopt;
  return ChatTemplate(*source, token_text(config, "bos_token"), token_text(config, "eos_token"));
}

std::string ChatTemplate::render(const nlohmann::ordered_json& messages, bool add_generation_prompt,
                                 const nlohmann::ordered_json& variables, std::time_t now) const {
  std::map<std::string, jinja::Value> globals;
  for (const auto& [name, value] : variables.items()) globals[name] = jinja::Json(value);
  globals["messages"] = jinja::Json(messages);
  globals["add_generation_prompt"] = jinja::Json(add_generation_prompt);
  if (!globals.contains("tools")) globals["tools"] = jinja::Json();
  if (!globals.contains("documents")) globals["documents"] = jinja::Json();
  if (state_->bos) globals["bos_token"] = jinja::Json(*state_->bos);
  if (state_->eos) globals["eos_token"] = jinja::Json(*state_->eos);
  return jinja::render(state_->statements, std::move(globals), now);
}

}  // namespace pleat
