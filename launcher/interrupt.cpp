#include "launcher/interrupt.h"

#include <csignal>

namespace pleat {
namespace {

volatile std::sig_atomic_t noted = 0;

void note(int signal) { noted = signal; }

void handle(void (*handler)(int), int flags) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

}  // namespace

InterruptGuard::InterruptGuard(bool leads) {
  noted = 0;
  handle(note, SA_RESTART | (leads ? int(SA_RESETHAND) : 0));
}

InterruptGuard::~InterruptGuard() { handle(SIG_DFL, 0); }

int InterruptGuard::signal() const { return noted; }

}  // namespace pleat
