#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace pleat::jinja {

// What stands inside {{ }} or {% %}, or the text between them; that of a raw block is text.
struct Piece {
  enum Kind { text, expression, statement } kind;
  std::string content;
  int line;
};
std::vector<Piece> cut(std::string_view source);

}  // namespace pleat::jinja
