#include <algorithm>

#include "core/text/jinja_expression_parser.h"
#include "core/text/jinja_syntax.h"
#include "kernels/check.h"

namespace pleat::jinja {
namespace {

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
      statement.kind = Statement::scope;
      tokens.expect_end();
      statement.body = block({"endgeneration"});
      expect_tag("endgeneration");
    } else if (word == "break" || word == "continue") {
      statement.kind = word == "break" ? Statement::leave : Statement::next;
      tokens.expect_end();
    } else {
      refuse(line, concat("unknown tag '", word, "'"));
    }
    out.push_back(std::move(statement));
  }

  Statement branch(ExpressionParser& tokens, int line) {
    if (++depth_ > kDeepest) refuse(line, "blocks are nested too deeply, or an 'if' has too many 'elif'");
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
    --depth_;
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
