#include "core/text/jinja_expression_parser.h"

#include <algorithm>
#include <cstdlib>

#include "kernels/check.h"

namespace pleat::jinja {

ExpressionParser::ExpressionParser(const Piece& piece) : tokens_(tokens_of(piece)) {
  if (tokens_.size() > kMostTokens) refuse(piece.line, "a tag is too long");
}

void ExpressionParser::expect_symbol(std::string_view text) {
  if (!take_symbol(text)) refuse(line(), concat("'", text, "' expected", before()));
}
void ExpressionParser::expect_name(std::string_view text) {
  if (!take_name(text)) refuse(line(), concat("'", text, "' expected", before()));
}
std::string ExpressionParser::expect_any_name() {
  if (peek().kind != Token::name) refuse(line(), concat("a name expected", before()));
  return take().text;
}
void ExpressionParser::expect_end() {
  if (peek().kind != Token::end) refuse(line(), concat("'", peek().text, "' is not understood here"));
}

// expression, or a tuple without brackets
ExpressionPtr ExpressionParser::tuple() {
  ExpressionPtr first = expression();
  if (!is_symbol(",")) return first;
  ExpressionPtr list = make(Expression::list);
  list->kids.push_back(std::move(first));
  while (take_symbol(",") && peek().kind != Token::end) list->kids.push_back(expression());
  return list;
}

ExpressionPtr ExpressionParser::expression() {
  if (++depth_ > kDeepest) refuse(line(), "an expression is nested too deeply");
  ExpressionPtr value = either();
  while (take_name("if")) {
    ExpressionPtr whole = make(Expression::condition);
    whole->kids.push_back(either());
    whole->kids.push_back(std::move(value));
    whole->kids.push_back(take_name("else") ? expression() : nullptr);
    value = std::move(whole);
  }
  --depth_;
  return value;
}

// The iterable of a loop: its "if" is the loop's filter.
ExpressionPtr ExpressionParser::either() {
  return chain({"or"}, true, [&] { return both(); });
}

std::string ExpressionParser::before() const {
  return peek().kind == Token::end ? " at the end" : concat(" before '", peek().text, "'");
}
ExpressionPtr ExpressionParser::make(Expression::Kind kind, std::string text) const {
  auto out = std::make_unique<Expression>();
  out->kind = kind;
  out->text = std::move(text);
  out->line = line();
  return out;
}
ExpressionPtr ExpressionParser::two(std::string text, ExpressionPtr a, ExpressionPtr b) const {
  ExpressionPtr out = make(Expression::binary, std::move(text));
  out->kids.push_back(std::move(a));
  out->kids.push_back(std::move(b));
  return out;
}
template <class Next>
ExpressionPtr ExpressionParser::chain(std::initializer_list<std::string_view> operators, bool names, Next next) {
  ExpressionPtr left = next();
  for (;;) {
    const auto found = std::find_if(operators.begin(), operators.end(),
                                    [&](std::string_view text) { return names ? is_name(text) : is_symbol(text); });
    if (found == operators.end()) return left;
    take();
    left = two(std::string(*found), std::move(left), next());
  }
}
ExpressionPtr ExpressionParser::both() {
  return chain({"and"}, true, [&] { return negation(); });
}
ExpressionPtr ExpressionParser::negation() {
  if (!take_name("not")) return comparison();
  if (++depth_ > kDeepest) refuse(line(), "an expression is nested too deeply");
  ExpressionPtr out = make(Expression::unary, "not");
  out->kids.push_back(negation());
  --depth_;
  return out;
}
std::optional<std::string> ExpressionParser::comparison_operator() {
  for (const char* text : {"==", "!=", "<=", ">=", "<", ">"})
    if (take_symbol(text)) return text;
  if (take_name("in")) return "in";
  if (is_name("not") && tokens_[at_ + 1].kind == Token::name && tokens_[at_ + 1].text == "in") {
    take(), take();
    return "not in";
  }
  return std::nullopt;
}
ExpressionPtr ExpressionParser::comparison() {
  ExpressionPtr left = sum();
  const auto text = comparison_operator();
  if (!text) return left;
  left = two(*text, std::move(left), sum());
  if (comparison_operator()) refuse(line(), "comparisons in a row are not supported");
  return left;
}
ExpressionPtr ExpressionParser::sum() {
  return chain({"+", "-"}, false, [&] { return joined(); });
}
ExpressionPtr ExpressionParser::joined() {
  return chain({"~"}, false, [&] { return product(); });
}
ExpressionPtr ExpressionParser::product() {
  return chain({"*", "//", "/", "%"}, false, [&] { return sign(); });
}
// Filters and tests apply to the signed value.
ExpressionPtr ExpressionParser::sign(bool with_filters) {
  ExpressionPtr value;
  if (is_symbol("-") || is_symbol("+")) {
    if (++depth_ > kDeepest) refuse(line(), "an expression is nested too deeply");
    value = make(Expression::unary, take().text);
    value->kids.push_back(sign(false));
    --depth_;
  } else {
    value = postfixed(primary());
  }
  return with_filters ? filtered(std::move(value)) : std::move(value);
}

ExpressionPtr ExpressionParser::primary() {
  const Token token = take();
  if (token.kind == Token::string) {
    ExpressionPtr out = make(Expression::literal);
    std::string text = token.text;
    while (peek().kind == Token::string) text += take().text;
    out->value = text;
    return out;
  }
  ExpressionPtr out = make(Expression::literal);
  if (token.kind == Token::integer) return out->value = std::stoll(token.text), std::move(out);
  if (token.kind == Token::number) return out->value = std::strtod(token.text.c_str(), nullptr), std::move(out);
  if (token.kind == Token::name) {
    const std::string& text = token.text;
    if (text == "true" || text == "True") return out->value = true, std::move(out);
    if (text == "false" || text == "False") return out->value = false, std::move(out);
    if (text == "none" || text == "None") return out;
    return make(Expression::name, text);
  }
  if (token.text == "(") return parenthesised();
  if (token.text == "[") {
    out = make(Expression::list);
    while (!take_symbol("]")) {
      out->kids.push_back(expression());
      if (!take_symbol(",") && !is_symbol("]")) expect_symbol("]");
    }
    return out;
  }
  if (token.text == "{") {
    out = make(Expression::dictionary);
    while (!take_symbol("}")) {
      out->kids.push_back(expression());
      expect_symbol(":");
      out->kids.push_back(expression());
      if (!take_symbol(",") && !is_symbol("}")) expect_symbol("}");
    }
    return out;
  }
  refuse(token.line, token.kind == Token::end ? "an expression expected at the end"
                                              : concat("an expression expected instead of '", token.text, "'"));
}
ExpressionPtr ExpressionParser::parenthesised() {
  ExpressionPtr first = is_symbol(")") ? make(Expression::tuple) : expression();
  if (take_symbol(")")) return first;
  ExpressionPtr list = make(Expression::tuple);
  list->kids.push_back(std::move(first));
  while (take_symbol(",") && !is_symbol(")")) list->kids.push_back(expression());
  expect_symbol(")");
  return list;
}

ExpressionPtr ExpressionParser::postfixed(ExpressionPtr value) {
  for (;;) {
    if (take_symbol(".")) {
      ExpressionPtr out = make(Expression::attribute, peek().kind == Token::integer ? take().text : expect_any_name());
      out->kids.push_back(std::move(value));
      value = std::move(out);
    } else if (take_symbol("[")) {
      value = subscript(std::move(value));
    } else if (is_symbol("(")) {
      ExpressionPtr out = make(Expression::call);
      out->kids.push_back(std::move(value));
      arguments(*out);
      value = std::move(out);
    } else {
      return value;
    }
  }
}
ExpressionPtr ExpressionParser::subscript(ExpressionPtr value) {
  std::vector<ExpressionPtr> parts(1);
  if (!is_symbol(":")) parts[0] = expression();
  while (take_symbol(":")) {
    parts.push_back(is_symbol(":") || is_symbol("]") ? nullptr : expression());
  }
  expect_symbol("]");
  if (parts.size() > 3) refuse(line(), "a slice has more than three parts");
  ExpressionPtr out = make(parts.size() == 1 ? Expression::index : Expression::slice);
  if (out->kind == Expression::slice) parts.resize(3);
  out->kids.push_back(std::move(value));
  for (ExpressionPtr& part : parts) out->kids.push_back(std::move(part));
  return out;
}
void ExpressionParser::arguments(Expression& out) {
  expect_symbol("(");
  while (!take_symbol(")")) {
    const bool keyword =
        peek().kind == Token::name && tokens_[at_ + 1].kind == Token::symbol && tokens_[at_ + 1].text == "=";
    if (keyword) {
      out.keywords.push_back(take().text);
      take();
    } else if (!out.keywords.empty()) {
      refuse(line(), "an argument without a name stands behind one with a name");
    }
    out.kids.push_back(expression());
    if (!take_symbol(",") && !is_symbol(")")) expect_symbol(")");
  }
}
// Of a test, without brackets around it.
bool ExpressionParser::is_argument() const {
  if (peek().kind == Token::symbol) return is_symbol("[") || is_symbol("{");
  if (peek().kind != Token::name) return peek().kind != Token::end;
  for (const char* other : {"else", "or", "and", "is", "not", "if"})
    if (is_name(other)) return false;
  return true;
}
ExpressionPtr ExpressionParser::filtered(ExpressionPtr value) {
  for (;;) {
    if (take_symbol("|")) {
      ExpressionPtr out = make(Expression::filter, expect_any_name());
      out->kids.push_back(std::move(value));
      if (is_symbol("(")) arguments(*out);
      value = postfixed(std::move(out));
    } else if (take_name("is")) {
      const bool negated = take_name("not");
      ExpressionPtr out = make(Expression::test, expect_any_name());
      out->kids.push_back(std::move(value));
      if (is_symbol("("))
        arguments(*out);
      else if (is_argument())
        out->kids.push_back(postfixed(primary()));
      value = std::move(out);
      if (!negated) continue;
      ExpressionPtr inverse = make(Expression::unary, "not");
      inverse->kids.push_back(std::move(value));
      value = std::move(inverse);
    } else {
      return value;
    }
  }
}

}  // namespace pleat::jinja
