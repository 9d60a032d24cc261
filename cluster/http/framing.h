#pragma once
// Where HTTP/1.1 requests begin and end in the bytes of a connection (RFC 9112), checked before anything else reads
// them: kj-http 0.9.2 accepts lengths below zero, lengths beside chunks and sizes of chunks that overflow, and whoever
// frames a message differently than the proxy in front of it can be made to answer somebody else's request.
#include <cstdint>
#include <string>
#include <string_view>

#include "cluster/http/http_limits.h"

namespace pleat {

// What is wrong with a request, as an HTTP status and a sentence; status 0: nothing.
struct FramingFault {
  int status = 0;
  const char* sentence = "";
};

class Framing {
 public:
  explicit Framing(const FramingLimits& limits) : limits_(limits) {}

  // Looks at the next bytes of the connection and appends to `out` those that may be read: of a header block all or
  // nothing, without white space behind its values; of a chunk's size no extensions. After a fault nothing more comes.
  void take(std::string_view bytes, std::string& out);

  const FramingFault& fault() const { return fault_; }
  // The client waits for leave to send the newest request's body ("Expect: 100-continue"); it has it once it is told,
  // or answered.
  bool expects_leave() const { return expects_leave_; }
  void told() { expects_leave_ = false; }
  // The newest request is HTTP/1.0, whose connections end with each answer.
  bool old() const { return old_; }
  // The fault is in a header block, of which nobody has seen anything.
  bool fault_in_header() const { return fault_.status != 0 && state_ == State::header; }

 private:
  enum class State { header, body, chunk_size, chunk, chunk_end, trailer };

  size_t take_header(std::string_view bytes, std::string& out);
  size_t take_line(std::string_view bytes, std::string& out);
  size_t pass(std::string_view bytes, std::string& out, State next);
  void check_header();
  void write_header(std::string& out) const;
  void check_field(std::string_view line);
  void check_chunk_size();
  void fail(int status, const char* sentence);

  const FramingLimits limits_;
  FramingFault fault_;
  State state_ = State::header;
  std::string held_;       // of a header block, or of a line between chunks
  uint64_t most_ = 0;      // bytes of the body, at most
  uint64_t left_ = 0;      // bytes of the body, or of the chunk
  uint64_t received_ = 0;  // bytes of the body's chunks
  bool has_length_ = false, chunked_ = false, has_host_ = false, old_ = false;  // of the header block
  bool expects_leave_ = false;
};

}  // namespace pleat
