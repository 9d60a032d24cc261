#pragma once
// One client's connection to the HTTP door.
#include <string>

#include "cluster/http/gateway.h"
#include "cluster/http/guarded_stream.h"

namespace pleat {

class HttpConnection final : private kj::HttpService,
                             private kj::HttpServerCallbacks,
                             private kj::HttpServerErrorHandler {
 public:
  // client: its address, without the port.
  HttpConnection(Gateway& gateway, kj::Own<kj::AsyncIoStream> stream, std::string client);
  ~HttpConnection() noexcept(false);
  KJ_DISALLOW_COPY(HttpConnection);

  // Answers until either side closes it; once.
  kj::Promise<void> run();

 private:
  kj::Promise<void> request(kj::HttpMethod method, kj::StringPtr url, const kj::HttpHeaders& headers,
                            kj::AsyncInputStream& body, Response& response) override;
  // After this answer.
  bool shouldClose() override { return closes_ || stream_.fault().status != 0; }
  kj::Promise<void> handleClientProtocolError(kj::HttpHeaders::ProtocolError error, Response& response) override;
  kj::Promise<void> handleApplicationError(kj::Exception exception, kj::Maybe<Response&> response) override;

  kj::Promise<void> answer(const HttpRequest& request, const kj::HttpHeaders& headers, kj::AsyncInputStream& body,
                           Response& response);
  // Why nobody who asks like this is answered; empty: no reason.
  std::string unwelcome(const kj::HttpHeaders& headers) const;
  kj::Promise<void> refuse(Response& response, const HttpError& error);

  Gateway& gateway_;
  GuardedStream stream_;
  const std::string client_;
  bool closes_ = false;
  kj::HttpServer server_;
};

}  // namespace pleat
