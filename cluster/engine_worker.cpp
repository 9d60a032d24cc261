#include "cluster/engine_worker.h"

#include <numeric>
#include <utility>

namespace pleat {

EngineWorker::EngineWorker(Reports& reports, Scheduler& scheduler) : reports_(reports), scheduler_(scheduler) {
  reports_.put({}, counts());
}

bool EngineWorker::turn(std::vector<Order> orders) {
  for (Order& order : orders)
    if (!follow(order)) return false;
  if (!orders.empty()) reports_.put({}, counts());  // the step may take long, or never end
  if (!scheduler_.step()) scheduler_.idle();
  reports_.put(std::exchange(news_, {}), counts());
  return true;
}

// False: leave.
bool EngineWorker::follow(Order& order) {
  if (std::holds_alternative<Leave>(order)) return false;
  if (const auto* cancel = std::get_if<Cancel>(&order))
    scheduler_.cancel(cancel->id);
  else
    submit(std::move(std::get<Submit>(order).request));
  return true;
}

void EngineWorker::submit(Request request) {
  const std::string id = request.id;
  try {
    scheduler_.submit(
        std::move(request), [this](Completion completion) { add(completion.id).completion = std::move(completion); },
        [this](const std::string& grown, const Piece& piece) { add(grown).growth.add(piece); });
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::invalid) throw;
    add(id).error = error;
  }
}

Report& EngineWorker::add(const std::string& id) {
  news_.push_back({id, {}, {}, {}});
  return news_.back();
}

EngineCounts EngineWorker::counts() const {
  const EngineStatistics& engine = scheduler_.statistics();
  EngineCounts counts;
  counts.waiting = scheduler_.queued();
  counts.running = scheduler_.running();
  counts.pages = scheduler_.pages();
  counts.free_pages = scheduler_.free_pages();
  counts.prompt_tokens = scheduler_.prompt_tokens();
  counts.reused_tokens = scheduler_.reused_tokens();
  counts.generated_tokens = scheduler_.generated_tokens();
  counts.preemptions = scheduler_.preemptions();
  counts.folded_rows = engine.folded_rows;
  counts.step_seconds = std::accumulate(std::begin(engine.seconds), std::end(engine.seconds), 0.0);
  counts.collective_seconds = engine.seconds[EngineStatistics::collective];
  for (size_t layer = 0; layer < engine.fallback.size(); ++layer)
    counts.layers.push_back({engine.choices[layer], engine.fallback[layer], engine.needed[layer], engine.found[layer]});
  return counts;
}

void work_for(Orders& orders, Reports& reports, Scheduler& scheduler, std::chrono::milliseconds beat) {
  EngineWorker worker(reports, scheduler);
  while (worker.turn(orders.take(worker.busy() ? std::chrono::milliseconds(0) : beat))) {
  }
}

}  // namespace pleat
