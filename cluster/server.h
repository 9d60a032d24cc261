#pragma once
// An engine behind Cap'n Proto RPC on rank 0. Two threads: the caller's computes, one of its own talks to clients on an
// event loop that sleeps in the kernel while there is nothing to say.
#include <chrono>
#include <memory>
#include <string>

#include "cluster/model_info.h"
#include "cluster/server_limits.h"
#include "cluster/tls_files.h"
#include "core/engine/scheduler.h"
#include "core/text/model_text.h"

namespace pleat {

struct ServerOptions {
  std::string listen;                     // see address.h; port 0: any free one
  TlsFiles tls;                           // none: clients come without
  std::chrono::milliseconds grace{0};     // for running requests when the server shall end
  std::chrono::milliseconds beat{10000};  // between signs of life for the other ranks while nothing runs
  ServerLimits limits;
};

class Server {
 public:
  // Listens; clients wait until serve(). Error(invalid) where that is not possible.
  explicit Server(const ServerOptions& options);
  ~Server();

  // With the port that was found.
  const std::string& address() const;

  // Serves until drained, computing on this thread. The limits left open follow from the model. stop_fd: an eventfd;
  // once it is written to the server drains, and the second time it ends what still runs.
  void serve(Scheduler& scheduler, const ModelText& text, const ModelInfo& model, int stop_fd);

 private:
  class Loop;
  std::unique_ptr<Loop> loop_;
};

}  // namespace pleat
