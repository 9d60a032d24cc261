#pragma once
// Writes the texts of batches, one batch after the other, some lines at a time, behind all that clients wait for. What
// is finished is on disk, one line a record; after a restart the rest goes on from there.
#include <functional>
#include <memory>
#include <string>

#include <kj/compat/http.h>
#include <kj/timer.h>

#include "cluster/http/batches.h"
#include "cluster/http/http_limits.h"
#include "cluster/http/openai_request.h"
#include "cluster/work_thread.h"

namespace pleat {

class BatchRunner {
 public:
  // Answers a request as the HTTP door would.
  using Ask = std::function<kj::Promise<void>(OpenAiRequest request, kj::HttpService::Response& response)>;

  // Goes on with what is not over. disk: reads and writes the batches' lines.
  BatchRunner(kj::Timer& timer, FileStore& store, Batches& batches, WorkThread& disk, const HttpLimits& limits,
              Ask ask);
  ~BatchRunner() noexcept(false);
  KJ_DISALLOW_COPY(BatchRunner);

  // There is a new one.
  void wake();

 private:
  struct Run;
  struct Line;
  class Answer;
  kj::Promise<void> run_all();
  kj::Promise<void> run_one(Batch& batch);
  kj::Promise<void> work(Run& run);
  kj::Promise<void> take(Run& run, Line& line);
  kj::Promise<void> ask(Run& run, Line& line);
  kj::Promise<void> append(Run& run, bool succeeded, std::string line);
  void finish(Run& run);
  void publish(Batch& batch, const std::string& id, const char* field, int64_t lines);
  bool give_up(Batch& batch, const std::string& why);  // false: its end could not be written

  kj::Timer& timer_;
  FileStore& store_;
  Batches& batches_;
  WorkThread& disk_;
  const HttpLimits limits_;
  const Ask ask_;
  kj::Own<kj::PromiseFulfiller<void>> wake_;  // while nothing is to be done
  kj::Promise<void> running_;
};

}  // namespace pleat
