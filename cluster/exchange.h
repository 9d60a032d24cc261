#pragma once
// What the thread that computes and the thread that talks hand to each other on rank 0: orders one way, reports the
// other. The computing thread sleeps on a condition while it has nothing to do; the talking one on its event loop,
// which a report wakes.
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <kj/async.h>

#include "core/engine/request.h"
#include "kernels/check.h"

namespace pleat {

// What a text grew by since it was last looked at.
struct Growth {
  std::vector<int32_t> tokens;
  std::string text;
  std::vector<TokenLogprob> logprobs;  // one a token where asked for

  void add(const Piece& piece);
  void add(Growth more);
};

struct Submit {
  Request request;
};
struct Cancel {
  std::string id;
};
struct Leave {};
using Order = std::variant<Submit, Cancel, Leave>;

// To the computing thread.
class Orders {
 public:
  void put(Order order);  // from any thread
  // All of them, in order; waits for the first at most `patience`.
  std::vector<Order> take(std::chrono::milliseconds patience);

 private:
  std::mutex mutex_;
  std::condition_variable any_;
  std::vector<Order> orders_;
};

// Of a request: it grew, ended, or was refused.
struct Report {
  std::string id;
  Growth growth;
  std::optional<Completion> completion;
  std::optional<Error> error;
};

// What rank 0 has counted of a layer's generated tokens (EngineStatistics).
struct LayerCounts {
  int64_t choices = 0, fallback = 0, needed = 0, found = 0;
};

struct EngineCounts {
  int64_t waiting = 0, running = 0;
  int64_t pages = 0, free_pages = 0;
  // since the start
  int64_t prompt_tokens = 0, reused_tokens = 0, generated_tokens = 0, preemptions = 0;
  int64_t folded_rows = 0;
  double step_seconds = 0, collective_seconds = 0;
  std::vector<LayerCounts> layers;
};

// From the computing thread.
class Reports {
 public:
  void put(std::vector<Report> reports, const EngineCounts& counts);
  // On the thread of an event loop, one wait at a time: ready once there are reports to take.
  kj::Promise<void> when_any();
  std::vector<Report> take();
  EngineCounts counts() const;  // as of the last step

 private:
  mutable std::mutex mutex_;
  std::vector<Report> reports_;
  EngineCounts counts_;
  kj::Maybe<kj::Own<kj::CrossThreadPromiseFulfiller<void>>> waiting_;
};

}  // namespace pleat
