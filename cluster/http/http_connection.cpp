#include "cluster/http/http_connection.h"

#include <strings.h>

#include <algorithm>
#include <cctype>

#include "kernels/check.h"

namespace pleat {
namespace {

constexpr std::string_view kBearer = "Bearer ";

kj::HttpServerSettings settings(const HttpLimits& limits, kj::HttpServerCallbacks& callbacks,
                                kj::HttpServerErrorHandler& errors) {
  kj::HttpServerSettings settings;
  settings.pipelineTimeout = limits.idle_timeout;
  settings.callbacks = callbacks;
  settings.errorHandler = errors;
  return settings;
}

// Of a list such as "TE, Close" (RFC 9110, 7.6.1).
bool holds_close(std::string options) {
  std::erase_if(options, [](char c) { return c == ' ' || c == '\t'; });
  std::ranges::transform(options, options.begin(), [](unsigned char c) { return char(std::tolower(c)); });
  return concat(',', options, ',').find(",close,") != std::string::npos;
}

}  // namespace

HttpConnection::HttpConnection(Gateway& gateway, kj::Own<kj::AsyncIoStream> stream, std::string client)
    : gateway_(gateway),
      stream_(kj::mv(stream), gateway.timer, gateway.limits),
      client_(std::move(client)),
      server_(gateway.timer, *gateway.headers, static_cast<kj::HttpService&>(*this),
              settings(gateway.limits, *this, *this)) {
  ++gateway_.metrics.connections;
}

HttpConnection::~HttpConnection() noexcept(false) { --gateway_.metrics.connections; }

kj::Promise<void> HttpConnection::run() { return server_.listenHttpCleanDrain(stream_).ignoreResult(); }

kj::Promise<void> HttpConnection::request(kj::HttpMethod method, kj::StringPtr url, const kj::HttpHeaders& headers,
                                          kj::AsyncInputStream& body, Response& response) {
  closes_ = stream_.old() || holds_close(headers.get(kj::HttpHeaderId::CONNECTION).orDefault("").cStr());
  const std::string asked = url.cStr();
  HttpRequest request;
  request.method = method;
  request.path = asked.substr(0, asked.find('?'));
  request.query = asked.substr(std::min(asked.size(), request.path.size() + 1));
  request.client = client_;
  request.content_type = headers.get(kj::HttpHeaderId::CONTENT_TYPE).orDefault("").cStr();
  request.old = stream_.old();
  KJ_IF_MAYBE (authorization, headers.get(gateway_.authorization)) {
    const std::string value = authorization->cStr();
    if (strncasecmp(value.c_str(), kBearer.data(), kBearer.size()) == 0) request.key = value.substr(kBearer.size());
  }
  ++gateway_.answers;
  auto counted = kj::defer([this] { --gateway_.answers; });
  auto left = stream_.client_left().then(
      []() -> kj::Promise<void> { return KJ_EXCEPTION(DISCONNECTED, "the client has left"); });
  // kj-http would wait for a next request even after an answer that says that there will be none.
  return answer(request, headers, body, response)
      .exclusiveJoin(kj::mv(left))
      .then([this] {
        if (closes_) stream_.end();
      })
      .attach(kj::mv(counted));
}

kj::Promise<void> HttpConnection::answer(const HttpRequest& request, const kj::HttpHeaders& headers,
                                         kj::AsyncInputStream& body, Response& response) {
  const FramingFault& fault = stream_.fault();
  if (fault.status != 0 && request.path == GuardedStream::kRefusedPath)
    return refuse(response, {fault.status, "invalid_request_error", "badRequest", fault.sentence, 0});
  if (const std::string why = unwelcome(headers); !why.empty())
    return refuse(response, {403, "invalid_request_error", "otherOrigin", why, 0});
  return gateway_.answer(request, body, response);
}

std::string HttpConnection::unwelcome(const kj::HttpHeaders& headers) const {
  const std::string origin = headers.get(gateway_.origin).orDefault("").cStr();
  const std::string host = headers.get(kj::HttpHeaderId::HOST).orDefault("").cStr();
  if (!gateway_.names.allows(host))
    return concat("nobody may ask for '", host,
                  "' here; --allowed-hosts lists the names that are more than this machine's");
  if (!origin.empty() && !gateway_.names.allows_page(origin, host))
    return "pages of other sites may not ask here; --allowed-hosts lists the names of those that may";
  return "";
}

kj::Promise<void> HttpConnection::handleClientProtocolError(kj::HttpHeaders::ProtocolError error, Response& response) {
  const int status = error.statusCode == 501 ? 405 : 400;
  return refuse(response, {status, "invalid_request_error", "badRequest", error.description.cStr(), 0});
}

kj::Promise<void> HttpConnection::handleApplicationError(kj::Exception exception, kj::Maybe<Response&> response) {
  if (exception.getType() != kj::Exception::Type::DISCONNECTED)
    KJ_IF_MAYBE (to, response)
      return refuse(*to, {500, "server_error", "internal", exception.getDescription().cStr(), 0});
  return kj::READY_NOW;
}

kj::Promise<void> HttpConnection::refuse(Response& response, const HttpError& error) {
  ++gateway_.metrics.responses[error.status];
  return reply(response, *gateway_.headers, error);
}

}  // namespace pleat
