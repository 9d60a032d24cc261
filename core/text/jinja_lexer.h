#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace pleat::jinja {

// What stands inside {{ }} or {% %}, or the text between them.
struct Piece {
  enum Kind { text, expression, statement } kind;
  std::string content;
  int line;
};
std::vector<Piece> cut(std::string_view source);

struct Token {
  enum Kind { name, string, integer, number, symbol, end } kind;
  std::string text;  // a string's value
  int line;
};
std::vector<Token> tokens_of(const Piece& piece);

[[noreturn]] void refuse(int line, const std::string& what);

}  // namespace pleat::jinja
