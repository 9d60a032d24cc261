#pragma once
// The HTTP door before replicas made of a rule, on pipes, with a clock of its own.
#include <kj/compat/http.h>

#include <nlohmann/json.hpp>

#include "cluster/http/http_connection.h"
#include "tests/cluster/fake_replica.h"

namespace pleat::test {

using nlohmann::json;

struct HttpAnswer {
  int status = 0;
  std::string body, retry_after, type;
  json parsed() const { return json::parse(body); }
  std::string error() const { return parsed()["error"]["message"]; }
};

class Door {
 public:
  explicit Door(FakeWorld& world, const HttpLimits& limits = {}, const ApiKeys& keys = {}, const HostNames& names = {})
      : world_(world),
        replicas(world.timer, world.connect(), options_),
        gateway(world.timer, replicas, options_, limits, keys, names) {
    replicas.set({"a", "b"});
    world.pass(20 * kj::MILLISECONDS);
  }

  // A client's end of a new connection.
  kj::Own<kj::AsyncIoStream> connect(const std::string& client = "1.2.3.4") {
    auto pipe = kj::newTwoWayPipe();
    auto connection = kj::heap<HttpConnection>(gateway, kj::mv(pipe.ends[0]), client);
    auto over = connection->run();
    connections_.push_back(over.attach(kj::mv(connection)).eagerlyEvaluate([](kj::Exception&&) {}));
    return kj::mv(pipe.ends[1]);
  }

  HttpAnswer ask(kj::HttpMethod method, const std::string& path, const std::string& body = "",
                 const std::string& key = "") {
    return world_.wait(start(method, path, body, key));
  }
  HttpAnswer post(const std::string& path, const json& body) { return ask(kj::HttpMethod::POST, path, body.dump()); }
  HttpAnswer get(const std::string& path) { return ask(kj::HttpMethod::GET, path); }

  kj::Promise<HttpAnswer> start(kj::HttpMethod method, const std::string& path, const std::string& body,
                                const std::string& key = "", const std::string& client = "1.2.3.4",
                                const std::string& type = "") {
    auto stream = connect(client);
    auto http = kj::newHttpClient(table_, *stream);
    kj::HttpHeaders headers(table_);
    headers.set(kj::HttpHeaderId::HOST, "here");
    if (!key.empty()) headers.add("Authorization", kj::str("Bearer ", key.c_str()));
    if (!type.empty()) headers.set(kj::HttpHeaderId::CONTENT_TYPE, kj::heapString(type.data(), type.size()));
    kj::Maybe<uint64_t> size;
    if (method == kj::HttpMethod::POST) size = body.size();
    auto request = http->request(method, path, headers, size);
    auto held = kj::heap<std::string>(body);
    auto sent = method == kj::HttpMethod::POST ? request.body->write(held->data(), held->size()) : kj::READY_NOW;
    return sent.attach(kj::mv(request.body), kj::mv(held))
        .then([response = kj::mv(request.response)]() mutable { return kj::mv(response); })
        .then([](kj::HttpClient::Response&& response) {
          HttpAnswer answer;
          answer.status = int(response.statusCode);
          response.headers->forEach([&](kj::StringPtr name, kj::StringPtr value) {
            if (name == "Retry-After") answer.retry_after = value.cStr();
            if (name == "Content-Type") answer.type = value.cStr();
          });
          auto read = response.body->readAllText();
          return read.attach(kj::mv(response.body)).then([answer](kj::String text) mutable {
            answer.body.assign(text.begin(), text.end());
            return answer;
          });
        })
        .attach(kj::mv(http))
        .attach(kj::mv(stream));
  }

 private:
  FakeWorld& world_;
  RouterOptions options_;
  kj::HttpHeaderTable table_;

 public:
  ReplicaSet replicas;
  Gateway gateway;

 private:
  std::vector<kj::Promise<void>> connections_;
};

}  // namespace pleat::test
