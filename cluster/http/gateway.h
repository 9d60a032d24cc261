#pragma once
// What all clients of a router's HTTP door share.
#include <kj/compat/http.h>

#include <map>
#include <memory>
#include <string>

#include "cluster/http/api_keys.h"
#include "cluster/http/host_names.h"
#include "cluster/http/http_reply.h"
#include "cluster/http/metrics.h"
#include "cluster/http/openai_request.h"
#include "cluster/http/turns.h"
#include "cluster/router/session.h"
#include "cluster/work_thread.h"

namespace pleat {

// A request without its body.
struct HttpRequest {
  kj::HttpMethod method = kj::HttpMethod::GET;
  std::string path;  // without what follows a '?', which is
  std::string query;
  std::string key;     // of "Authorization: Bearer KEY"; empty without
  std::string client;  // its address
  std::string content_type;
  bool old = false;  // HTTP/1.0, which has no chunks
};

class FilesDoor;

class Gateway {
 public:
  Gateway(kj::Timer& timer, ReplicaSet& replicas, const RouterOptions& router, const HttpLimits& limits,
          const ApiKeys& keys, const HostNames& names = {});
  ~Gateway() noexcept(false);
  KJ_DISALLOW_COPY(Gateway);

  // Keeps files and batches in this folder, and goes on with those in it. Error(invalid) where it cannot be used.
  void keep_files(const std::string& folder);

  kj::Promise<void> answer(const HttpRequest& request, kj::AsyncInputStream& body, kj::HttpService::Response& response);

  // These count from now on.
  void set_keys(const ApiKeys& keys) { keys_ = keys; }
  // No new texts from now on.
  void drain() { draining_ = true; }
  // Nothing is under way, texts of batches included.
  bool idle() const { return answers == 0 && metrics.texts == 0; }

  kj::Timer& timer;
  ReplicaSet& replicas;
  const RouterOptions router;
  const HttpLimits limits;
  HostNames names;
  Metrics metrics;
  kj::Own<kj::HttpHeaderTable> headers;
  kj::HttpHeaderId authorization, origin;
  int64_t answers = 0;  // under way, from a request's header to what its client has taken last

  // A client's texts, counted while it lives.
  class Share {
   public:
    Share(Gateway& gateway, std::string client, int texts);
    ~Share() noexcept(false);
    KJ_DISALLOW_COPY(Share);

   private:
    Gateway& gateway_;
    const std::string client_;
    const int texts_;
  };

 private:
  kj::Promise<void> get(const std::string& path, kj::HttpService::Response& response);
  kj::Promise<void> models(const std::string& id, kj::HttpService::Response& response);
  struct Reading;
  kj::Promise<std::shared_ptr<Reading>> parsed(kj::String text, bool chat, const std::string& client);
  kj::Promise<void> generate(bool chat, bool may_stream, const std::string& client, kj::AsyncInputStream& body,
                             kj::HttpService::Response& response);
  kj::Promise<void> start(OpenAiRequest request, const std::string& client, kj::HttpService::Response& response);
  // Why it would be turned away even if nothing else were under way; empty: it would not.
  std::string never_fits(const OpenAiRequest& request) const;
  std::string replicas_json() const;

  ApiKeys keys_;
  const int64_t start_;  // seconds since 1970
  bool draining_ = false;
  std::map<std::string, int> texts_;  // by client
  Turns turns_;                       // at the reader
  WorkThread reader_;                 // of long bodies
  std::unique_ptr<FilesDoor> files_;  // null: none are kept
};

}  // namespace pleat
