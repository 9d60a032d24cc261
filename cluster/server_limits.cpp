#include "cluster/server_limits.h"

namespace pleat {

void ServerLimits::complete(int64_t max_positions, int64_t tokens_in_cache) {
  cache_tokens = tokens_in_cache;
  if (requests_per_connection == 0) requests_per_connection = requests;
  if (tokens == 0) tokens = 4 * cache_tokens;
  if (prompt_bytes == 0) prompt_bytes = 64 * max_positions;
}

void ServerLimits::write(rpc::Limits::Builder out) const {
  out.setRequests(uint32_t(requests));
  out.setTokens(uint64_t(tokens));
  out.setPromptBytes(uint32_t(prompt_bytes));
  out.setMessages(uint32_t(messages));
  out.setStopStrings(uint32_t(stop_strings));
  out.setStopBytes(uint32_t(stop_bytes));
  out.setLogprobs(uint32_t(logprobs));
  out.setContinuations(uint32_t(continuations));
  out.setBufferedTokens(uint32_t(buffered_tokens));
  out.setReaderTimeoutMs(uint32_t(reader_timeout_ms));
  out.setConnections(uint32_t(connections));
  out.setMessageBytes(uint64_t(message_bytes()));
  out.setBatch(uint32_t(batch));
  out.setIdleTimeoutMs(uint32_t(idle_timeout_ms));
  out.setRequestsPerConnection(uint32_t(requests_per_connection));
}

}  // namespace pleat
