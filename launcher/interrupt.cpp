#include "launcher/interrupt.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "kernels/check.h"

namespace pleat {
namespace {

volatile std::sig_atomic_t noted = 0;
volatile std::sig_atomic_t event = -1;

void note(int signal) {
  const int before = errno;
  noted = signal == SIGUSR1 ? SIGTERM : signal;
  [[maybe_unused]] const int written = eventfd_write(event, 1);
  errno = before;
}

void handle(void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGUSR1, &action, nullptr);
}

}  // namespace

InterruptGuard::InterruptGuard() {
  noted = 0;
  event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (event < 0) throw Error(ErrorKind::failed, "no file descriptor is left for an eventfd");
  handle(note);
}

InterruptGuard::~InterruptGuard() {
  handle(SIG_DFL);
  close(event);
}

int InterruptGuard::signal() const { return noted; }
int InterruptGuard::fd() const { return event; }

}  // namespace pleat
