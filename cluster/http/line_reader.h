#pragma once
// The lines of a file that are not blank, of which none has to fit in memory.
#include <cstdint>
#include <fstream>
#include <string>

namespace pleat {

class LineReader {
 public:
  LineReader(const std::string& path, size_t most) : in_(path, std::ios::binary), most_(most) {}

  bool good() const { return in_.good(); }
  // The next one and its number, from 1. False at the end.
  bool next(std::string& text, int64_t& line);
  // The last one had more than `most` bytes; its text is cut off.
  bool cut() const { return cut_; }

 private:
  std::ifstream in_;
  const size_t most_;
  int64_t line_ = 0;
  bool cut_ = false;
};

}  // namespace pleat
