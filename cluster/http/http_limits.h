#pragma once
// What one HTTP door takes on.
#include <cstddef>
#include <cstdint>

#include <kj/time.h>

namespace pleat {

struct FramingLimits {
  size_t header_bytes = 16 * 1024;  // request line and header fields
  uint64_t body_bytes = 4 << 20;
  uint64_t file_bytes = 0;  // of a body of POST /v1/files, where that is more
};

// What requests may ask for, and in a chat have where they do not say.
struct OpenAiLimits {
  int max_tokens = 4096;  // of one text
  int choices = 16;       // texts of one request
};

struct HttpLimits {
  FramingLimits framing;
  OpenAiLimits openai;
  int connections = 256;
  int client_texts = 64;  // of one client at a time: of a key, or of an address where no key is asked for
  kj::Duration body_timeout = 30 * kj::SECONDS;   // until a body has come
  kj::Duration idle_timeout = 60 * kj::SECONDS;   // between requests
  kj::Duration write_timeout = 30 * kj::SECONDS;  // for a client to take 64 KiB of an answer
};

}  // namespace pleat
