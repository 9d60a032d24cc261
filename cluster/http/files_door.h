#pragma once
// /v1/files and /v1/batches: OpenAI's, over a folder.
#include <kj/function.h>

#include <string>

#include "cluster/http/batch_runner.h"
#include "cluster/http/http_reply.h"
#include "cluster/http/metrics.h"
#include "cluster/http/receiver.h"

namespace pleat {

struct HttpRequest;

class FilesDoor {
 public:
  // Goes on with the batches in the folder. Error(invalid) where it cannot be used.
  FilesDoor(kj::Timer& timer, const kj::HttpHeaderTable& headers, Metrics& metrics, const HttpLimits& limits,
            const std::string& folder, BatchRunner::Ask ask);

  // Paths that are its own.
  static bool answers(const std::string& path);
  // owner: who asks (file_store.h); what is another's is not there.
  kj::Promise<void> answer(const HttpRequest& request, const std::string& owner, kj::AsyncInputStream& body,
                           kj::HttpService::Response& response);

 private:
  kj::Promise<void> upload(const std::string& type, const std::string& owner, kj::AsyncInputStream& body,
                           kj::HttpService::Response& response);
  kj::Function<kj::Promise<void>(kj::Exception&&)> body_fault(kj::HttpService::Response& response);
  kj::Promise<void> create(const std::string& owner, kj::AsyncInputStream& body, kj::HttpService::Response& response);
  kj::Promise<void> with_file(const HttpRequest& request, const std::string& owner, const std::string& rest,
                              kj::HttpService::Response& response);
  kj::Promise<void> with_batch(const HttpRequest& request, const std::string& owner, const std::string& rest,
                               kj::HttpService::Response& response);
  kj::Promise<void> list_files(const std::string& asked, const std::string& owner, kj::HttpService::Response& response);
  kj::Promise<void> list_batches(const std::string& asked, const std::string& owner,
                                 kj::HttpService::Response& response);
  kj::Promise<void> content(const StoredFile& file, kj::HttpService::Response& response);
  kj::Promise<void> send(kj::HttpService::Response& response, const nlohmann::ordered_json& value);
  kj::Promise<void> refuse(kj::HttpService::Response& response, const HttpError& error);

  kj::Timer& timer_;
  const kj::HttpHeaderTable& headers_;
  Metrics& metrics_;
  const HttpLimits limits_;
  FileStore store_;
  Batches batches_;
  WorkThread disk_;
  Receiver receiver_;
  BatchRunner runner_;
};

}  // namespace pleat
