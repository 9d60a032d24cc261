#pragma once
// A router behind HTTP, on one thread: an event loop that sleeps in the kernel while there is nothing to do.
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "cluster/http/http_limits.h"
#include "cluster/router/router_options.h"
#include "cluster/tls_files.h"

namespace pleat {

struct RouterServerOptions {
  std::vector<std::string> replicas;  // addresses; or else
  std::string replica_file;           // their list, looked at again every second
  std::string http;                   // where it listens; see address.h
  std::vector<std::string> hosts;     // names under which it is asked (host_names.h)
  std::string api_keys;               // file; empty: none are asked for
  std::string files;                  // folder of files and batches; empty: none are kept
  TlsFiles http_tls, rpc_tls;         // towards clients, looked at again every second; towards replicas
  RouterOptions router;
  HttpLimits limits;
  std::chrono::milliseconds grace{0};  // for what is under way when it shall end
  bool quiet = false;                  // no lines on stderr when replicas come and go
};

constexpr unsigned kHttpPort = 8000;

class RouterServer {
 public:
  // Reads its files and listens; clients wait until serve(). Error(invalid) where that is not possible.
  explicit RouterServer(const RouterServerOptions& options);
  ~RouterServer();

  // With the port that was found.
  const std::string& address() const;

  // Serves. stop_fd: an eventfd; once it is written to, what is under way may finish, and the second time it ends at
  // once.
  void serve(int stop_fd);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pleat
