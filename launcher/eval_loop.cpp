#include "launcher/eval_loop.h"

#include "launcher/together.h"

namespace pleat {
namespace {

void share(Communicator& communicator, uint8_t& more) {
  communicator.broadcast("window", std::as_writable_bytes(std::span(&more, 1)));
}

}  // namespace

void EvalLoop::lead(const std::function<void()>& work) {
  uint8_t more = 0;
  try {
    work();
  } catch (const Error& error) {
    if (ends_in_order(error)) share(communicator_, more);
    throw;
  }
  share(communicator_, more);
}

void EvalLoop::window(std::span<const int32_t> tokens, const Row& reference_row, const Row& model_row) {
  uint8_t more = 1;
  share(communicator_, more);
  if (reference_) score_with(*reference_, tokens, reference_row);
  score_with(model_, tokens, model_row);
}

void EvalLoop::serve() {
  for (uint8_t more = 0;;) {
    share(communicator_, more);
    if (!more) return;
    if (reference_) serve_steps(*reference_, communicator_);
    serve_steps(model_, communicator_);
  }
}

void EvalLoop::score_with(Engine& engine, std::span<const int32_t> tokens, const Row& row) {
  score(engine, communicator_, tokens, scoring_, row);
  StepPlan end;
  end.stop = true;
  broadcast_plan(communicator_, end);
}

}  // namespace pleat
