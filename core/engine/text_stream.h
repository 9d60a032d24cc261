#pragma once
// The text of one completion as it grows: whole characters only, ending before the first stop string.
#include <string>
#include <vector>

#include "core/text/tokenizer.h"

namespace pleat {

class TextStream {
 public:
  TextStream(const Tokenizer& tokenizer, const std::vector<std::string>& stop) : decoder_(tokenizer), stop_(stop) {}

  // The next token. Returns the new text that no stop string can take back any more.
  std::string push(int32_t token);
  // No more tokens: returns what was held back.
  std::string finish();

  // A stop string came. The one that is complete first counts, of several the longest; so the text does not depend on
  // how it is cut into tokens.
  bool stopped() const { return stopped_; }
  // All that push() and finish() returned.
  std::string text() const { return text_.substr(0, released_); }

 private:
  void append(const std::string& piece);
  std::string release(size_t end);
  size_t held_back() const;

  StreamingDecoder decoder_;
  std::vector<std::string> stop_;
  std::string text_;
  size_t released_ = 0;  // of text_
  bool stopped_ = false;
};

}  // namespace pleat
