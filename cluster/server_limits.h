#pragma once
// What one server takes on. Clients see them in Info.limits; the schema says what each means.
#include <cstdint>

#include "cluster/pleat.capnp.h"

namespace pleat {

struct ServerLimits {
  int64_t requests = 256;
  int64_t requests_per_connection = 0;  // 0: all of them
  int64_t tokens = 0;                   // 0: four times what the key-value cache holds
  int64_t prompt_bytes = 0;             // 0: 64 a token of the model's context
  int64_t messages = 1024;
  int64_t stop_strings = 16;
  int64_t stop_bytes = 1024;
  int64_t logprobs = 20;
  int64_t continuations = 64;
  int64_t buffered_tokens = 1024;
  int64_t reader_timeout_ms = 30'000;
  int64_t connections = 256;
  int64_t idle_timeout_ms = 600'000;
  int64_t batch = 0;         // the scheduler's
  int64_t cache_tokens = 0;  // that the key-value cache holds; 0: not known

  // Prompts travel as text, as tokens or in messages, and the rest of a request is small beside them.
  int64_t message_bytes() const { return (int64_t(1) << 20) + 4 * prompt_bytes; }
  // What a client may leave unread of its answers; then its connection is closed.
  int64_t unread_bytes() const { return 4 * message_bytes(); }

  // Gives those that are 0 their values.
  void complete(int64_t max_positions, int64_t tokens_in_cache);
  void write(rpc::Limits::Builder out) const;
};

}  // namespace pleat
