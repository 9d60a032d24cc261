#pragma once
// The tree of a Jinja template, as far as chat templates of language models use the language.
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace pleat::jinja {

struct Expression {
  enum Kind {
    literal,    // value
    name,       // text
    attribute,  // kids[0].text
    index,      // kids[0][kids[1]]
    slice,      // kids[0][kids[1]:kids[2]:kids[3]]; a missing bound is null
    call,       // kids[0](kids[1..]), the last of them by the names in `keywords`
    filter,     // kids[0] | text(kids[1..])
    test,       // kids[0] is text(kids[1..])
    unary,      // text kids[0]
    binary,     // kids[0] text kids[1]
    condition,  // kids[1] if kids[0] else kids[2]; kids[2] may be null
    list,       // [kids...]
    tuple,      // (kids...): a list, but for what a text with % takes
    dictionary  // {kids[0]: kids[1], ...}
  };
  Kind kind;
  std::string text;
  nlohmann::ordered_json value;
  std::vector<std::unique_ptr<Expression>> kids;
  std::vector<std::string> keywords;
  int line = 0;
};
using ExpressionPtr = std::unique_ptr<Expression>;

struct Statement {
  enum Kind {
    plain,    // text
    output,   // {{ condition }}
    branch,   // if condition: body, else: otherwise
    loop,     // for names in condition [if filter]: body, else: otherwise
    assign,   // set names = condition; "a.b" assigns to a namespace
    capture,  // set names: body
    scope,    // body, whose names end with it
    macro,    // macro text(names = defaults): body
    leave,    // break
    next      // continue
  };
  Kind kind;
  std::string text;
  std::vector<std::string> names;
  ExpressionPtr condition, filter;
  std::vector<ExpressionPtr> defaults;  // of a macro's last parameters
  std::vector<Statement> body, otherwise;
  int line = 0;
};

// Error(invalid) naming the line and what is not known there. White space as Hugging Face sets it: trim_blocks and
// lstrip_blocks.
std::vector<Statement> parse(std::string_view source);

}  // namespace pleat::jinja
