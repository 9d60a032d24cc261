#include "launcher/interrupt.h"

#include <csignal>

namespace pleat {
namespace {

volatile std::sig_atomic_t noted = 0;

void note(int signal) { noted = signal; }

void handle(void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

}  // namespace

InterruptGuard::InterruptGuard() {
  noted = 0;
  handle(note);
}

InterruptGuard::~InterruptGuard() { handle(SIG_DFL); }

int InterruptGuard::signal() const { return noted; }

}  // namespace pleat
