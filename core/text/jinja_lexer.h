#pragma once
#include <string>
#include <vector>

#include "core/text/jinja_pieces.h"

namespace pleat::jinja {

struct Token {
  enum Kind { name, string, integer, number, symbol, end } kind;
  std::string text;  // a string's value
  int line;
};
std::vector<Token> tokens_of(const Piece& piece);

[[noreturn]] void refuse(int line, const std::string& what);

}  // namespace pleat::jinja
