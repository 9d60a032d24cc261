#include "cluster/http/http_reply.h"

#include <algorithm>

namespace pleat {
namespace {

constexpr size_t kReplyPiece = 64 * 1024;  // bytes, each with the write timeout of its own

kj::Promise<void> write_in_pieces(kj::AsyncOutputStream& out, kj::ArrayPtr<const char> rest) {
  const size_t size = std::min(kReplyPiece, rest.size());
  auto written = out.write(rest.begin(), size);
  if (size == rest.size()) return written;
  return written.then([&out, rest, size] { return write_in_pieces(out, rest.slice(size, rest.size())); });
}

}  // namespace

const char* status_text(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 413:
      return "Content Too Large";
    case 417:
      return "Expectation Failed";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 503:
      return "Service Unavailable";
    default:
      return "Internal Server Error";
  }
}

kj::Promise<void> reply(kj::HttpService::Response& response, const kj::HttpHeaderTable& table, int status,
                        const std::string& type, std::string body, uint32_t retry_after_ms) {
  kj::HttpHeaders headers(table);
  headers.add("Content-Type", kj::heapString(type.data(), type.size()));
  headers.add("Cache-Control", "no-store");
  headers.add("X-Content-Type-Options", "nosniff");
  if (status == 401) headers.add("WWW-Authenticate", "Bearer");
  if (retry_after_ms > 0) headers.add("Retry-After", kj::str((retry_after_ms + 999) / 1000));
  auto held = kj::heap<std::string>(std::move(body));
  auto stream = response.send(uint(status), status_text(status), headers, held->size());
  auto written = write_in_pieces(*stream, {held->data(), held->size()});
  return written.attach(kj::mv(stream)).attach(kj::mv(held));
}

kj::Promise<void> reply(kj::HttpService::Response& response, const kj::HttpHeaderTable& table, const HttpError& error) {
  return reply(response, table, error.status, "application/json", error.body(), error.retry_after_ms);
}

}  // namespace pleat
