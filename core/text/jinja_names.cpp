#include "core/text/jinja_names.h"

#include "core/text/jinja_functions.h"
#include "core/text/jinja_lexer.h"
#include "kernels/check.h"

namespace pleat::jinja {

Names::Inside::Inside(Names& names, std::shared_ptr<Scope> outer) : names_(names), before_(names.scope_) {
  names_.scope_ = std::make_shared<Scope>(Scope{{}, std::move(outer)});
}

Names::Names(std::map<std::string, Value> globals)
    : scope_(std::make_shared<Scope>(Scope{std::move(globals), nullptr})) {}

// Namespaces may hold each other, in a ring or in a chain of any length.
Names::~Names() {
  for (const auto& space : spaces_) space->clear();
}

const Value* Names::find(const std::string& name) const {
  for (const Scope* scope = scope_.get(); scope; scope = scope->outer.get())
    if (const auto found = scope->names.find(name); found != scope->names.end()) return &found->second;
  return nullptr;
}

Value Names::look_up(const std::string& name) const {
  const Value* found = find(name);
  if (found) return *found;
  return is_function(name) ? Json(concat("<function ", name, ">")) : Value::undefined(name);
}

void Names::assign(const std::vector<std::string>& names, const Value& value, int line) {
  if (names.size() == 1) return assign(names[0], value, line);
  if (!value.json.is_array() || value.json.size() != names.size())
    refuse(line, concat("there are ", names.size(), " names for ", value.json.size(), " values"));
  for (size_t i = 0; i < names.size(); ++i) assign(names[i], Json(value.json[i]), line);
}

void Names::assign(const std::string& name, const Value& value, int line) {
  const size_t dot = name.find('.');
  if (dot == std::string::npos) return set(name, value);
  const Value space = look_up(name.substr(0, dot));
  if (!space.space) refuse(line, concat("'", name.substr(0, dot), "' is no namespace"));
  (*space.space)[name.substr(dot + 1)] = value;
}

void Names::bind(const std::vector<std::string>& names, const Json& item, int line) {
  if (names.size() == 1) return set(names[0], item);
  if (!item.is_array() || item.size() != names.size())
    refuse(line, concat("an item of the loop is not ", names.size(), " values"));
  for (size_t i = 0; i < names.size(); ++i) set(names[i], Json(item[i]));
}

void Names::keep(const Value& value) {
  if (value.space) spaces_.push_back(value.space);
}

}  // namespace pleat::jinja
