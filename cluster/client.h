#pragma once
// A program's side of the connection to an engine server, for programs that wait for each answer.
#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include <nlohmann/json.hpp>

#include "cluster/messages.h"
#include "cluster/tls_files.h"

namespace pleat {

class Client {
 public:
  // Error(disconnected) if nobody answers there, or one who is not who it should be.
  explicit Client(const std::string& address, const TlsFiles& tls = {});
  ~Client();

  // `fill` writes the request, `piece` sees what comes. Returns the completion, which holds everything. A Refusal, or
  // Error(disconnected) when the server goes away in the middle.
  Completion generate(const std::function<void(rpc::GenerateRequest::Builder)>& fill,
                      const std::function<void(const Growth&)>& piece);

  nlohmann::ordered_json info();
  nlohmann::ordered_json stats();
  // grace 0: the server's own. Returns how many requests were cut off.
  uint32_t drain(std::chrono::milliseconds grace);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pleat
