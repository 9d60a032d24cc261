#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/jinja_lexer.h"
#include "core/text/jinja_syntax.h"

namespace pleat::jinja {

constexpr int kDeepest = 100;         // nesting of expressions and of statements
constexpr size_t kMostTokens = 1000;  // of a tag: the tree is no deeper than that

// Reads the tokens of one tag, left to right.
class ExpressionParser {
 public:
  explicit ExpressionParser(const Piece& piece);

  const Token& peek() const { return tokens_[at_]; }
  int line() const { return peek().line; }
  Token take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool is_symbol(std::string_view text) const { return peek().kind == Token::symbol && peek().text == text; }
  bool is_name(std::string_view text) const { return peek().kind == Token::name && peek().text == text; }
  bool take_symbol(std::string_view text) { return is_symbol(text) && (take(), true); }
  bool take_name(std::string_view text) { return is_name(text) && (take(), true); }
  void expect_symbol(std::string_view text);
  void expect_name(std::string_view text);
  std::string expect_any_name();
  void expect_end();

  ExpressionPtr tuple();  // an expression, or several with commas between them: a list
  ExpressionPtr expression();
  ExpressionPtr either();  // an expression without "if", which in a loop's head is the loop's filter

 private:
  std::string before() const;
  ExpressionPtr make(Expression::Kind kind, std::string text = "") const;
  ExpressionPtr two(std::string text, ExpressionPtr a, ExpressionPtr b) const;
  template <class Next>
  ExpressionPtr chain(std::initializer_list<std::string_view> operators, bool names, Next next);
  ExpressionPtr both();
  ExpressionPtr negation();
  std::optional<std::string> comparison_operator();
  ExpressionPtr comparison();
  ExpressionPtr sum();
  ExpressionPtr joined();
  ExpressionPtr product();
  ExpressionPtr sign(bool with_filters = true);
  ExpressionPtr primary();
  ExpressionPtr parenthesised();
  ExpressionPtr postfixed(ExpressionPtr value);
  ExpressionPtr subscript(ExpressionPtr value);
  void arguments(Expression& out);
  bool is_argument() const;
  ExpressionPtr filtered(ExpressionPtr value);

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace pleat::jinja
