#include "core/text/pattern.h"

#include "kernels/check.h"

namespace pleat {
namespace {

std::string text_of(const nlohmann::json& value) {
  PLEAT_REQUIRE(value.is_string(), "tokenizer.json: a pattern is not a text");
  return value.get<std::string>();
}

}  // namespace

std::string pcre_of_oniguruma(std::string_view expression) {
  const std::string space(kWhiteSpaceClass), digits = "0-9a-fA-F";
  std::string out = "(?m)";  // ^ and $ match at the borders of lines
  int depth = 0;             // of sets
  for (size_t i = 0; i < expression.size(); ++i) {
    const char c = expression[i];
    if (c == '\\' && i + 1 < expression.size()) {
      const char next = expression[++i];
      if (next == 's') {
        out += depth > 0 ? space : concat('[', space, ']');
      } else if (next == 'S' && depth == 0) {
        out += concat("[^", space, ']');
      } else if (next == 'h') {
        out += depth > 0 ? digits : concat('[', digits, ']');
      } else if (next == 'H') {
        PLEAT_REQUIRE(depth == 0, "tokenizer.json: \\H in a set of the expression '", expression, "' is not supported");
        out += concat("[^", digits, ']');
      } else {
        out += {'\\', next};
      }
      continue;
    }
    if (depth == 0 && expression.substr(i, 2) == "(?") {  // m is another option in Oniguruma
      const size_t end = expression.find_first_not_of("imsxadu-", i + 2);
      PLEAT_REQUIRE(expression.substr(i, end - i).find('m') == std::string_view::npos,
                    "tokenizer.json: (?m in the expression '", expression, "' is not supported");
    }
    if (c == '[') {
      const bool named = depth > 0 && expression.substr(i, 2) == "[:";
      const bool negated = expression.substr(i + 1, 1) == "^";
      PLEAT_REQUIRE(!named && !(depth > 0 && negated), "tokenizer.json: the set inside a set of the expression '",
                    expression, "' is not supported");
      if (depth++ > 0) continue;  // a union: its members join the outer set
    }
    if (c == ']' && depth > 0 && --depth > 0) continue;
    PLEAT_REQUIRE(!(depth > 0 && expression.substr(i, 2) == "&&"), "tokenizer.json: && in a set of the expression '",
                  expression, "' is not supported");
    out += c;
  }
  return out;
}

Pattern::Pattern(const nlohmann::json& description) {
  const auto pattern = description.find("pattern");
  const bool object = pattern != description.end() && pattern->is_object() && pattern->size() == 1;
  PLEAT_REQUIRE(object && (pattern->contains("String") || pattern->contains("Regex")),
                "tokenizer.json: a pattern is neither a String nor a Regex");
  if (pattern->contains("Regex")) {
    regex_.emplace(pcre_of_oniguruma(text_of((*pattern)["Regex"])));
  } else {
    literal_ = text_of((*pattern)["String"]);
    PLEAT_REQUIRE(!literal_.empty(), "tokenizer.json: a pattern is empty");
  }
}

void Pattern::each(std::string_view text, const std::function<void(std::string_view, bool)>& piece) const {
  if (!regex_) {
    for (size_t found; (found = text.find(literal_)) != std::string_view::npos;
         text.remove_prefix(found + literal_.size())) {
      if (found > 0) piece(text.substr(0, found), false);
      piece(text.substr(found, literal_.size()), true);
    }
    if (!text.empty()) piece(text, false);
    return;
  }
  Regex::Searcher searcher(*regex_);
  each_valid_run(
      text,
      [&](std::string_view run) {
        size_t done = 0, from = 0;
        while (from < run.size()) {
          const auto match = searcher.find(run, from);
          if (!match) break;
          if (match->end == match->begin) {  // an empty match cuts nothing
            from = match->end + (match->end < run.size() ? utf8_step(run.substr(match->end)).length : 1);
            continue;
          }
          if (match->begin > done) piece(run.substr(done, match->begin - done), false);
          piece(run.substr(match->begin, match->end - match->begin), true);
          done = from = match->end;
        }
        if (done < run.size()) piece(run.substr(done), false);
      },
      [&](std::string_view broken) { piece(broken, false); });
}

}  // namespace pleat
