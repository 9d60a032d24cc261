#pragma once
// Rank 0's computing thread while it serves: orders in, steps, reports out.
#include <chrono>

#include "cluster/exchange.h"
#include "core/engine/scheduler.h"

namespace pleat {

class EngineWorker {
 public:
  EngineWorker(Reports& reports, Scheduler& scheduler);

  // There is something to compute.
  bool busy() const { return scheduler_.queued() + scheduler_.running() > 0; }
  // Follows the orders, computes one step, or lets the other ranks know that it lives, and reports. False: the order to
  // leave was among them, and the rest did not count.
  bool turn(std::vector<Order> orders);

 private:
  bool follow(Order& order);
  void submit(Request request);
  Report& add(const std::string& id);
  EngineCounts counts() const;

  Reports& reports_;
  Scheduler& scheduler_;
  std::vector<Report> news_;  // of this turn
};

// Runs until the order to leave; what is unfinished then is dropped. With nothing to compute it sleeps, and lets the
// other ranks know every `beat` that it lives. Cancelled requests are gone before the next step.
void work_for(Orders& orders, Reports& reports, Scheduler& scheduler, std::chrono::milliseconds beat);

}  // namespace pleat
