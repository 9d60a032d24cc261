#include "core/text/jinja_bounds.h"

#include <algorithm>

#include "core/text/jinja_lexer.h"

namespace pleat::jinja {
namespace {

void require_room(const std::string& out, size_t more, int line) {
  if (more > kMostOutput || out.size() > kMostOutput - more) refuse(line, "the text becomes too long");
}

}  // namespace

void Steps::take(int line, int64_t steps) {
  left_ -= steps;
  if (left_ < 0) refuse(line, "the template does not come to an end");
}

void append(std::string& out, std::string_view text, int line) {
  require_room(out, text.size(), line);
  out += text;
}

void append_times(std::string& out, std::string_view text, int64_t count, int line) {
  if (count <= 0 || text.empty()) return;
  if (size_t(count) > kMostOutput) count = int64_t(kMostOutput) + 1;  // so that the product is a number
  const size_t begin = out.size(), length = text.size() * size_t(count);
  require_room(out, length, line);
  out.reserve(begin + length);
  out += text;
  while (out.size() - begin < length)
    out.append(out, begin, std::min(out.size() - begin, length - (out.size() - begin)));
}

}  // namespace pleat::jinja
