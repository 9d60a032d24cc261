#include "cluster/http/multipart.h"

#include <algorithm>
#include <cctype>

#include "kernels/check.h"

namespace pleat {
namespace {

constexpr size_t kLongestBoundary = 70;  // RFC 2046
constexpr size_t kHeaderBytes = 4096;    // of a part
constexpr int kParts = 16;

bool starts(std::string_view text, std::string_view lower) {
  return text.size() >= lower.size() && std::equal(lower.begin(), lower.end(), text.begin(), [](char a, char b) {
           return a == char(std::tolower(static_cast<unsigned char>(b)));
         });
}

// The value of a parameter "; name=value" or "; name=\"value\""; empty where there is none.
std::string parameter(std::string_view header, std::string_view name) {
  for (size_t at = header.find(';'); at != std::string_view::npos; at = header.find(';', at)) {
    at = header.find_first_not_of("; \t", at);
    if (at == std::string_view::npos) break;
    const bool it = starts(header.substr(at), name) && header.substr(at + name.size()).starts_with('=');
    at = header.find_first_of("=;", at);
    if (at == std::string_view::npos) break;
    if (header[at] == ';') continue;
    std::string value;
    const bool quoted = ++at < header.size() && header[at] == '"';
    for (at += quoted; at < header.size() && header[at] != (quoted ? '"' : ';'); ++at) {
      if (quoted && header[at] == '\\' && at + 1 < header.size()) ++at;
      value += header[at];
    }
    if (it) return value;
    if (at >= header.size()) break;
  }
  return "";
}

// The value of the field Content-Disposition; empty where there is none.
std::string_view disposition(std::string_view header) {
  constexpr std::string_view kName = "content-disposition:";
  while (!header.empty()) {
    const std::string_view line = header.substr(0, header.find("\r\n"));
    if (starts(line, kName)) return line.substr(kName.size());
    header.remove_prefix(std::min(header.size(), line.size() + 2));
  }
  return {};
}

}  // namespace

Multipart::Multipart(const std::string& content_type, Parts& parts) : parts_(parts), held_("\r\n") {
  PLEAT_REQUIRE(starts(content_type, "multipart/form-data"), "the body must be multipart/form-data");
  const std::string boundary = parameter(content_type, "boundary");
  PLEAT_REQUIRE(!boundary.empty() && boundary.size() <= kLongestBoundary, "the Content-Type names no boundary of 1 to ",
                kLongestBoundary, " characters");
  boundary_ = "\r\n--" + boundary;
}

void Multipart::take(std::string_view bytes) {
  held_ += bytes;
  while (step()) {
  }
}

void Multipart::begin_part(std::string_view header) {
  PLEAT_REQUIRE(++parts_begun_ <= kParts, "the body has more than ", kParts, " parts");
  const std::string name = parameter(disposition(header), "name");
  PLEAT_REQUIRE(!name.empty(), "a part of the body has no name");
  parts_.begin(name, parameter(disposition(header), "filename"));
}

// False: more bytes are needed.
bool Multipart::step() {
  if (state_ == State::ended) return held_.clear(), false;
  if (state_ == State::boundary) {  // "--" ends the body, a line's end begins a part
    if (held_.size() < 2) return false;
    PLEAT_REQUIRE(held_.starts_with("\r\n") || held_.starts_with("--"), "the body has a boundary that does not end");
    state_ = held_[0] == '-' ? State::ended : State::header;
    if (state_ == State::ended) held_.clear();
    return true;
  }
  if (state_ == State::header) {  // with the line's end before it
    const size_t end = held_.find("\r\n\r\n");
    const bool fits = end == std::string::npos ? held_.size() < kHeaderBytes + 4 : end <= kHeaderBytes;
    PLEAT_REQUIRE(fits, "the header of a part of the body is too large");
    if (end == std::string::npos) return false;
    begin_part(std::string_view(held_).substr(0, end));
    held_.erase(0, end + 4);
    state_ = State::data;
    return true;
  }
  const size_t end = held_.find(boundary_);
  const bool found = end != std::string::npos;
  const size_t sure = found ? end : held_.size() < boundary_.size() ? 0 : held_.size() - boundary_.size() + 1;
  if (state_ == State::data && sure > 0) parts_.data(std::string_view(held_).substr(0, sure));
  held_.erase(0, found ? end + boundary_.size() : sure);
  if (found) state_ = State::boundary;
  return found;
}

}  // namespace pleat
