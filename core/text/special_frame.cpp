#include "core/text/special_frame.h"

#include "core/text/description.h"
#include "kernels/check.h"

namespace pleat {
namespace {

// "single": [{"SpecialToken": {"id": "<s>", ...}}, {"Sequence": ...}], "special_tokens": {"<s>": {"ids": [1], ...}}
SpecialFrame read_template(const nlohmann::json& description) {
  const auto single = description.find("single");
  PLEAT_REQUIRE(single != description.end() && single->is_array(),
                "tokenizer.json: TemplateProcessing has no 'single' template");
  SpecialFrame frame;
  bool text_seen = false;
  for (const nlohmann::json& part : *single) {
    if (part.contains("Sequence")) {
      text_seen = true;
      continue;
    }
    const nlohmann::json name = part.value("/SpecialToken/id"_json_pointer, nlohmann::json());
    const nlohmann::json all = description.value("special_tokens", nlohmann::json::object());
    const bool known = name.is_string() && all.is_object() && all.contains(name.get<std::string>()) &&
                       all[name.get<std::string>()].value("ids", nlohmann::json()).is_array();
    PLEAT_REQUIRE(known, "tokenizer.json: TemplateProcessing names a special token that it does not describe");
    for (const nlohmann::json& id : all[name.get<std::string>()]["ids"]) {
      PLEAT_REQUIRE(is_token_id(id), "tokenizer.json: TemplateProcessing has the token id ", id.dump());
      (text_seen ? frame.after : frame.before).push_back(id.get<int32_t>());
    }
  }
  return frame;
}

int32_t named_id(const nlohmann::json& description, const char* key) {
  const auto token = description.find(key);
  const bool valid = token != description.end() && token->is_array() && token->size() == 2 && is_token_id((*token)[1]);
  PLEAT_REQUIRE(valid, "tokenizer.json: the post_processor has no token '", key, "'");
  return (*token)[1].get<int32_t>();
}

}  // namespace

SpecialFrame read_special_frame(const nlohmann::json& description) {
  SpecialFrame frame;
  if (description.is_null()) return frame;
  PLEAT_REQUIRE(description.is_object() && description.contains("type"),
                "tokenizer.json has a post_processor without type");
  const auto& type = description["type"];
  if (type == "TemplateProcessing") return read_template(description);
  if (type == "RobertaProcessing" || type == "BertProcessing")
    return {{named_id(description, "cls")}, {named_id(description, "sep")}};
  if (type == "ByteLevel") return frame;
  if (type != "Sequence")
    throw Error(ErrorKind::unimplemented, concat("tokenizer.json asks for the unknown post_processor ", type.dump()));
  PLEAT_REQUIRE(description.contains("processors") && description["processors"].is_array(),
                "tokenizer.json: a Sequence post_processor has no processors");
  for (const nlohmann::json& part : description["processors"]) {
    const SpecialFrame inner = read_special_frame(part);
    frame.before.insert(frame.before.begin(), inner.before.begin(), inner.before.end());
    frame.after.insert(frame.after.end(), inner.after.begin(), inner.after.end());
  }
  return frame;
}

}  // namespace pleat
