#pragma once
// A coroutine with a stack of its own, known to the sanitizers.
#include <functional>
#include <memory>

namespace pleat::emulator {

class Fiber {
 public:
  // Nothing runs before resume().
  explicit Fiber(std::function<void()> body);
  ~Fiber();
  Fiber(const Fiber&) = delete;

  void resume();   // runs the body until it suspends or ends
  void suspend();  // called by the body: back to who resumed it

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pleat::emulator
