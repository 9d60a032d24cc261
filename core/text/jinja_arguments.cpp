#include "core/text/jinja_arguments.h"

#include <algorithm>

#include "core/text/jinja_lexer.h"
#include "kernels/check.h"

namespace pleat::jinja {
namespace {

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    words.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return words;
}

}  // namespace

Value Arguments::get(size_t place, std::string_view name, const Value& otherwise) const {
  if (place < values.size()) return values[place];
  const auto found = named.find(std::string(name));
  return found == named.end() ? otherwise : found->second;
}

Arguments Arguments::from(size_t place) const {
  Arguments rest = *this;
  rest.values.erase(rest.values.begin(), rest.values.begin() + long(std::min(place, values.size())));
  return rest;
}

bool check_arguments(std::span<const Signature> signatures, std::string_view name, const Arguments& arguments) {
  const auto found = std::find_if(signatures.begin(), signatures.end(), [&](const auto& s) { return s.name == name; });
  if (found == signatures.end()) return false;
  if (found->parameters == "*") return true;
  std::vector<std::string_view> parameters = words_of(found->parameters);
  if (arguments.values.size() > parameters.size())
    refuse(arguments.line, concat("'", name, "' takes at most ", parameters.size(), " arguments"));
  size_t known = 0;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const bool needed = parameters[i].ends_with('!');
    if (needed) parameters[i].remove_suffix(1);
    const bool is_named = parameters[i] != "_" && arguments.named.contains(std::string(parameters[i]));
    const bool is_placed = i < arguments.values.size();
    if (is_named && is_placed) refuse(arguments.line, concat("'", name, "' has two values for '", parameters[i], "'"));
    if (needed && !is_named && !is_placed) refuse(arguments.line, concat("'", name, "' needs more arguments"));
    known += is_named;
  }
  if (known == arguments.named.size()) return true;
  for (const auto& [keyword, _] : arguments.named)
    if (keyword == "_" || std::find(parameters.begin(), parameters.end(), keyword) == parameters.end())
      refuse(arguments.line, concat("unknown argument '", keyword, "' of '", name, "'"));
  return true;
}

}  // namespace pleat::jinja
