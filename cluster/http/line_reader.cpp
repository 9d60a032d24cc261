#include "cluster/http/line_reader.h"

namespace pleat {

bool LineReader::next(std::string& text, int64_t& line) {
  std::streambuf& bytes = *in_.rdbuf();
  constexpr int kEnd = std::char_traits<char>::eof();
  for (int c = 0; c != kEnd;) {
    text.clear();
    cut_ = false;
    for (c = bytes.sbumpc(); c != '\n' && c != kEnd; c = bytes.sbumpc()) {
      cut_ = cut_ || text.size() == most_;
      if (!cut_) text += char(c);
    }
    ++line_;
    line = line_;
    if (text.find_first_not_of(" \t\r") != std::string::npos) return true;
  }
  return false;
}

}  // namespace pleat
