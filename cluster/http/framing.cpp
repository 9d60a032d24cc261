#include "cluster/http/framing.h"

#include <algorithm>
#include <cctype>
#include <cstdio>

namespace pleat {
namespace {

constexpr size_t kChunkLine = 256;  // bytes, with extensions
constexpr size_t kMostDigits = 15;  // so that no size overflows

bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) || std::string_view("!#$%&'*+-.^_`|~").find(char(c)) != std::string_view::npos;
  });
}

bool same(std::string_view a, std::string_view lower) {
  return std::equal(a.begin(), a.end(), lower.begin(), lower.end(),
                    [](unsigned char x, char y) { return std::tolower(x) == y; });
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// The number that all of the text is, in a base of 10 or 16.
bool read_size(std::string_view text, int base, uint64_t& size) {
  size = 0;
  if (text.empty() || text.size() > kMostDigits) return false;
  for (const unsigned char c : text) {
    const int digit = std::isdigit(c) ? c - '0' : std::isxdigit(c) ? std::tolower(c) - 'a' + 10 : base;
    if (digit >= base) return false;
    size = size * uint64_t(base) + uint64_t(digit);
  }
  return true;
}

std::string hexadecimal(uint64_t size) {
  char digits[17];
  return {digits, size_t(std::snprintf(digits, sizeof digits, "%llx", static_cast<unsigned long long>(size)))};
}

}  // namespace

void Framing::take(std::string_view bytes, std::string& out) {
  while (!bytes.empty() && fault_.status == 0) {
    if (state_ != State::header) told();  // the client did not wait
    size_t taken = 0;
    switch (state_) {
      case State::header:
        taken = take_header(bytes, out);
        break;
      case State::body:
        taken = pass(bytes, out, State::header);
        break;
      case State::chunk:
        taken = pass(bytes, out, State::chunk_end);
        break;
      case State::chunk_size:
      case State::chunk_end:
      case State::trailer:
        taken = take_line(bytes, out);
        break;
    }
    bytes.remove_prefix(taken);
  }
}

size_t Framing::pass(std::string_view bytes, std::string& out, State next) {
  const size_t size = size_t(std::min<uint64_t>(left_, bytes.size()));
  out += bytes.substr(0, size);
  left_ -= size;
  if (left_ == 0) state_ = next;
  return size;
}

size_t Framing::take_header(std::string_view bytes, std::string& out) {
  for (size_t i = 0; i < bytes.size(); ++i) {
    const char c = bytes[i];
    if (held_.empty() && (c == '\r' || c == '\n')) continue;  // an empty line between requests
    const bool after_return = !held_.empty() && held_.back() == '\r';
    if ((c == '\n') != after_return || c == '\0') return fail(400, "a line of the header does not end in CR LF"), 0;
    held_ += c;
    if (held_.size() > limits_.header_bytes) return fail(431, "the header is too large"), 0;
    if (!held_.ends_with("\r\n\r\n")) continue;
    check_header();
    if (fault_.status != 0) return 0;
    write_header(out);
    held_.clear();
    return i + 1;
  }
  return bytes.size();
}

void Framing::check_header() {
  has_length_ = chunked_ = has_host_ = expects_leave_ = false;
  left_ = received_ = 0;
  std::string_view rest = held_;
  const size_t first = rest.find("\r\n");
  const std::string_view request = rest.substr(0, first);
  if (!request.ends_with(" HTTP/1.1") && !request.ends_with(" HTTP/1.0"))
    return fail(400, "the request line does not name HTTP/1.1");
  old_ = request.ends_with("0");
  most_ = limits_.body_bytes;
  if (request.starts_with("POST /v1/files ")) most_ = std::max(most_, limits_.file_bytes);
  rest.remove_prefix(first + 2);
  for (size_t end = rest.find("\r\n"); end > 0 && fault_.status == 0; end = rest.find("\r\n")) {
    check_field(rest.substr(0, end));
    rest.remove_prefix(end + 2);
  }
  if (fault_.status != 0) return;
  if (has_length_ && chunked_) return fail(400, "there is a Content-Length and a Transfer-Encoding");
  if (chunked_ && old_) return fail(400, "HTTP/1.0 has no Transfer-Encoding");
  if (left_ > most_) return fail(413, "the body is too large");
  state_ = chunked_ ? State::chunk_size : left_ > 0 ? State::body : State::header;
  expects_leave_ = expects_leave_ && state_ != State::header && !old_;
}

// Without white space behind values: kj-http takes a length with it for none.
void Framing::write_header(std::string& out) const {
  for (std::string_view rest = held_; !rest.empty(); rest.remove_prefix(rest.find('\n') + 1)) {
    const std::string_view line = rest.substr(0, rest.find('\r'));
    out += line.substr(0, line.find_last_not_of(" \t") + 1);
    out += "\r\n";
  }
}

void Framing::check_field(std::string_view line) {
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos || !is_token(line.substr(0, colon)))
    return fail(400, "a header field has no proper name");
  const std::string_view name = line.substr(0, colon), value = trimmed(line.substr(colon + 1));
  if (same(name, "content-length")) {
    if (has_length_) return fail(400, "there are several Content-Lengths");
    has_length_ = true;
    if (!read_size(value, 10, left_)) return fail(400, "the Content-Length is not the size of a body");
  } else if (same(name, "transfer-encoding")) {
    if (chunked_ || !same(value, "chunked")) return fail(400, "the only Transfer-Encoding is chunked, once");
    chunked_ = true;
  } else if (same(name, "host")) {
    if (has_host_) return fail(400, "there are several Hosts");
    has_host_ = true;
  } else if (same(name, "expect")) {
    if (!same(value, "100-continue")) return fail(417, "the only expectation is 100-continue");
    expects_leave_ = true;
  }
}

size_t Framing::take_line(std::string_view bytes, std::string& out) {
  const size_t end = bytes.find('\n');
  const size_t taken = end == std::string_view::npos ? bytes.size() : end + 1;
  held_ += bytes.substr(0, taken);
  if (held_.size() > kChunkLine) return fail(400, "a line between chunks is too long"), 0;
  if (end == std::string_view::npos) return taken;
  if (!held_.ends_with("\r\n")) return fail(400, "a line between chunks does not end in CR LF"), 0;
  const bool empty = held_.size() == 2;
  if (state_ == State::chunk_size) {
    check_chunk_size();
    held_ = hexadecimal(left_) + "\r\n";  // without what RFC 9112 (7.1.1) lets stand behind it
  } else if (state_ == State::chunk_end) {
    if (!empty) return fail(400, "a chunk is longer than it says"), 0;
    state_ = State::chunk_size;
  } else if (empty) {
    state_ = State::header;
  } else {
    return fail(400, "the body ends with header fields"), 0;
  }
  if (fault_.status != 0) return 0;
  out += held_;
  held_.clear();
  return taken;
}

void Framing::check_chunk_size() {
  std::string_view size = held_;
  size.remove_suffix(2);
  size = trimmed(size.substr(0, size.find(';')));
  if (!read_size(size, 16, left_)) return fail(400, "the size of a chunk is not one");
  received_ += left_;
  if (received_ > most_) return fail(413, "the body is too large");
  state_ = left_ > 0 ? State::chunk : State::trailer;
}

void Framing::fail(int status, const char* sentence) { fault_ = {status, sentence}; }

}  // namespace pleat
