#include <algorithm>
#include <optional>

#include "core/text/jinja_lexer.h"
#include "core/text/jinja_syntax.h"
#include "kernels/check.h"

namespace pleat::jinja {
namespace {

constexpr int kDeepest = 100;         // nesting of expressions and of statements
constexpr size_t kMostTokens = 1000;  // of a tag: the tree is no deeper than that

class ExpressionParser {
 public:
  explicit ExpressionParser(const Piece& piece) : tokens_(tokens_of(piece)) {
    if (tokens_.size() > kMostTokens) refuse(piece.line, "a tag is too long");
  }

  const Token& peek() const { return tokens_[at_]; }
  int line() const { return peek().line; }
  Token take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool is_symbol(std::string_view text) const { return peek().kind == Token::symbol && peek().text == text; }
  bool is_name(std::string_view text) const { return peek().kind == Token::name && peek().text == text; }
  bool take_symbol(std::string_view text) { return is_symbol(text) && (take(), true); }
  bool take_name(std::string_view text) { return is_name(text) && (take(), true); }
  void expect_symbol(std::string_view text) {
    if (!take_symbol(text)) refuse(line(), concat("'", text, "' expected", before()));
  }
  void expect_name(std::string_view text) {
    if (!take_name(text)) refuse(line(), concat("'", text, "' expected", before()));
  }
  std::string expect_any_name() {
    if (peek().kind != Token::name) refuse(line(), concat("a name expected", before()));
    return take().text;
  }
  void expect_end() {
    if (peek().kind != Token::end) refuse(line(), concat("'", peek().text, "' is not understood here"));
  }

  // expression, or a tuple without brackets
  ExpressionPtr tuple() {
    ExpressionPtr first = expression();
    if (!is_symbol(",")) return first;
    ExpressionPtr list = make(Expression::list);
    list->kids.push_back(std::move(first));
    while (take_symbol(",") && peek().kind != Token::end) list->kids.push_back(expression());
    return list;
  }

  ExpressionPtr expression() {
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
  ExpressionPtr either() {
    return chain({"or"}, true, [&] { return both(); });
  }

 private:
  std::string before() const {
    return peek().kind == Token::end ? " at the end" : concat(" before '", peek().text, "'");
  }
  ExpressionPtr make(Expression::Kind kind, std::string text = "") const {
    auto out = std::make_unique<Expression>();
    out->kind = kind;
    out->text = std::move(text);
    out->line = line();
    return out;
  }
  ExpressionPtr two(std::string text, ExpressionPtr a, ExpressionPtr b) const {
    ExpressionPtr out = make(Expression::binary, std::move(text));
    out->kids.push_back(std::move(a));
    out->kids.push_back(std::move(b));
    return out;
  }
  template <class Next>
  ExpressionPtr chain(std::initializer_list<std::string_view> operators, bool names, Next next) {
    ExpressionPtr left = next();
    for (;;) {
      const auto found = std::find_if(operators.begin(), operators.end(),
                                      [&](std::string_view text) { return names ? is_name(text) : is_symbol(text); });
      if (found == operators.end()) return left;
      take();
      left = two(std::string(*found), std::move(left), next());
    }
  }
  ExpressionPtr both() {
    return chain({"and"}, true, [&] { return negation(); });
  }
  ExpressionPtr negation() {
    if (!take_name("not")) return comparison();
    if (++depth_ > kDeepest) refuse(line(), "an expression is nested too deeply");
    ExpressionPtr out = make(Expression::unary, "not");
    out->kids.push_back(negation());
    --depth_;
    return out;
  }
  std::optional<std::string> comparison_operator() {
    for (const char* text : {"==", "!=", "<=", ">=", "<", ">"})
      if (take_symbol(text)) return text;
    if (take_name("in")) return "in";
    if (is_name("not") && tokens_[at_ + 1].kind == Token::name && tokens_[at_ + 1].text == "in") {
      take(), take();
      return "not in";
    }
    return std::nullopt;
  }
  ExpressionPtr comparison() {
    ExpressionPtr left = sum();
    const auto text = comparison_operator();
    if (!text) return left;
    left = two(*text, std::move(left), sum());
    if (comparison_operator()) refuse(line(), "comparisons in a row are not supported");
    return left;
  }
  ExpressionPtr sum() {
    return chain({"+", "-"}, false, [&] { return joined(); });
  }
  ExpressionPtr joined() {
    return chain({"~"}, false, [&] { return product(); });
  }
  ExpressionPtr product() {
    return chain({"*", "//", "/", "%"}, false, [&] { return sign(); });
  }
  ExpressionPtr sign() {
    for (const char* text : {"-", "+"}) {
      if (!take_symbol(text)) continue;
      ExpressionPtr out = make(Expression::unary, text);
      out->kids.push_back(sign());
      return out;
    }
    return filtered(postfixed(primary()));
  }

  ExpressionPtr primary() {
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
    if (token.kind == Token::number) return out->value = std::stod(token.text), std::move(out);
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
  ExpressionPtr parenthesised() {
    ExpressionPtr first = is_symbol(")") ? make(Expression::list) : expression();
    if (take_symbol(")")) return first;
    ExpressionPtr list = make(Expression::list);
    list->kids.push_back(std::move(first));
    while (take_symbol(",") && !is_symbol(")")) list->kids.push_back(expression());
    expect_symbol(")");
    return list;
  }

  ExpressionPtr postfixed(ExpressionPtr value) {
    for (;;) {
      if (take_symbol(".")) {
        ExpressionPtr out =
            make(Expression::attribute, peek().kind == Token::integer ? take().text : expect_any_name());
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
  ExpressionPtr subscript(ExpressionPtr value) {
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
  void arguments(Expression& out) {
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
  ExpressionPtr filtered(ExpressionPtr value) {
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
        else if (peek().kind == Token::string || peek().kind == Token::integer)
          out->kids.push_back(primary());
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

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
};

class Parser {
 public:
  explicit Parser(std::vector<Piece> pieces) : pieces_(std::move(pieces)) {}

  std::vector<Statement> all() {
    std::vector<Statement> out = block({});
    if (at_ < pieces_.size()) refuse(pieces_[at_].line, "a block ends here that did not begin");
    return out;
  }

 private:
  // Statements up to a tag that begins with one of `ends`, which is left in front.
  std::vector<Statement> block(std::initializer_list<std::string_view> ends) {
    if (++depth_ > kDeepest) refuse(pieces_[at_].line, "blocks are nested too deeply");
    std::vector<Statement> out;
    while (at_ < pieces_.size()) {
      const Piece& piece = pieces_[at_];
      if (piece.kind == Piece::text) {
        Statement statement;
        statement.kind = Statement::plain;
        statement.text = piece.content;
        out.push_back(std::move(statement));
        ++at_;
        continue;
      }
      ExpressionParser tokens(piece);
      if (piece.kind == Piece::expression) {
        Statement statement;
        statement.kind = Statement::output;
        statement.line = piece.line;
        statement.condition = tokens.tuple();
        tokens.expect_end();
        out.push_back(std::move(statement));
        ++at_;
        continue;
      }
      const std::string word = tokens.peek().text;
      if (std::find(ends.begin(), ends.end(), word) != ends.end()) break;
      if (word.starts_with("end") || word == "else" || word == "elif") {
        if (ends.size() == 0) break;
        refuse(piece.line, concat("'", word, "' has no beginning"));
      }
      ++at_;
      tag(tokens, word, piece.line, out);
    }
    --depth_;
    return out;
  }

  void expect_tag(std::string_view word) {
    if (at_ == pieces_.size()) refuse(pieces_.empty() ? 1 : pieces_.back().line, concat("'", word, "' is missing"));
    ExpressionParser tokens(pieces_[at_++]);
    tokens.expect_name(word);
    tokens.expect_end();
  }

  void tag(ExpressionParser& tokens, const std::string& word, int line, std::vector<Statement>& out) {
    tokens.take();
    Statement statement;
    statement.line = line;
    if (word == "if") {
      out.push_back(branch(tokens, line));
      return;
    }
    if (word == "for") {
      loop(tokens, statement);
    } else if (word == "set") {
      set(tokens, statement);
    } else if (word == "macro") {
      macro(tokens, statement);
    } else if (word == "generation") {  // marks what an assistant wrote; gives the same text
      tokens.expect_end();
      for (Statement& inner : block({"endgeneration"})) out.push_back(std::move(inner));
      expect_tag("endgeneration");
      return;
    } else if (word == "break" || word == "continue") {
      statement.kind = word == "break" ? Statement::leave : Statement::next;
      tokens.expect_end();
    } else {
      refuse(line, concat("unknown tag '", word, "'"));
    }
    out.push_back(std::move(statement));
  }

  Statement branch(ExpressionParser& tokens, int line) {
    Statement statement;
    statement.kind = Statement::branch;
    statement.line = line;
    statement.condition = tokens.expression();
    tokens.expect_end();
    statement.body = block({"elif", "else", "endif"});
    if (at_ == pieces_.size()) refuse(line, "'if' has no 'endif'");
    const Piece piece = pieces_[at_++];
    ExpressionParser next(piece);
    if (next.take_name("elif")) {
      statement.otherwise.push_back(branch(next, piece.line));
    } else if (next.take_name("else")) {
      next.expect_end();
      statement.otherwise = block({"endif"});
      expect_tag("endif");
    }
    return statement;
  }

  void loop(ExpressionParser& tokens, Statement& statement) {
    statement.kind = Statement::loop;
    const bool bracket = tokens.take_symbol("(");
    do statement.names.push_back(tokens.expect_any_name());
    while (tokens.take_symbol(","));
    if (bracket) tokens.expect_symbol(")");
    tokens.expect_name("in");
    statement.condition = tokens.either();
    if (tokens.take_name("if")) statement.filter = tokens.expression();
    tokens.expect_end();
    statement.body = block({"else", "endfor"});
    if (at_ == pieces_.size()) refuse(statement.line, "'for' has no 'endfor'");
    ExpressionParser next(pieces_[at_++]);
    if (!next.take_name("else")) return;
    statement.otherwise = block({"endfor"});
    expect_tag("endfor");
  }

  void set(ExpressionParser& tokens, Statement& statement) {
    do {
      std::string name = tokens.expect_any_name();
      if (tokens.take_symbol(".")) name = concat(name, '.', tokens.expect_any_name());
      statement.names.push_back(name);
    } while (tokens.take_symbol(","));
    if (tokens.take_symbol("=")) {
      statement.kind = Statement::assign;
      statement.condition = tokens.tuple();
      tokens.expect_end();
      return;
    }
    tokens.expect_end();
    statement.kind = Statement::capture;
    statement.body = block({"endset"});
    expect_tag("endset");
  }

  void macro(ExpressionParser& tokens, Statement& statement) {
    statement.kind = Statement::macro;
    statement.text = tokens.expect_any_name();
    tokens.expect_symbol("(");
    while (!tokens.take_symbol(")")) {
      statement.names.push_back(tokens.expect_any_name());
      if (tokens.take_symbol("=")) statement.defaults.push_back(tokens.expression());
      if (!tokens.take_symbol(",") && !tokens.is_symbol(")")) tokens.expect_symbol(")");
    }
    tokens.expect_end();
    statement.body = block({"endmacro"});
    expect_tag("endmacro");
  }

  std::vector<Piece> pieces_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

std::vector<Statement> parse(std::string_view source) { return Parser(cut(source)).all(); }

}  // namespace pleat::jinja
