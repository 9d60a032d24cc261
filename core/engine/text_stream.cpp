#include "core/engine/text_stream.h"

#include <algorithm>
#include <string_view>

namespace pleat {

std::string TextStream::push(int32_t token) {
  if (stopped_) return {};
  append(decoder_.push(token));
  return release(stopped_ ? text_.size() : text_.size() - held_back());
}

std::string TextStream::finish() {
  if (!stopped_) append(decoder_.flush());
  return release(text_.size());
}

// What was released can be no part of a stop string, so the search begins behind it.
void TextStream::append(const std::string& piece) {
  text_ += piece;
  size_t begin = 0, end = std::string::npos;
  for (const std::string& stop : stop_) {
    const size_t found = text_.find(stop, released_);
    if (found == std::string::npos) continue;
    const size_t found_end = found + stop.size();
    if (found_end < end || (found_end == end && found < begin)) begin = found, end = found_end;
  }
  if (end == std::string::npos) return;
  stopped_ = true;
  text_.resize(begin);
}

std::string TextStream::release(size_t end) {
  std::string piece = text_.substr(released_, end - released_);
  released_ = end;
  return piece;
}

// Length of the longest end of the text that a stop string begins with.
size_t TextStream::held_back() const {
  const std::string_view unreleased = std::string_view(text_).substr(released_);
  size_t longest = 0;
  for (const std::string& stop : stop_) {
    for (size_t length = std::min(stop.size() - 1, unreleased.size()); length > longest; --length)
      if (unreleased.ends_with(std::string_view(stop).substr(0, length))) longest = length;
  }
  return longest;
}

}  // namespace pleat
