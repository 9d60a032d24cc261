#include "launcher/together.h"

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <iostream>
#include <mutex>
#include <optional>
#include <thread>

#include "launcher/bootstrap.h"
#include "launcher/command.h"
#include "launcher/guardian.h"

namespace pleat {
namespace {

void print_error(const Error& error) { std::fprintf(stderr, "pleat: %s\n", error.what()); }

// A command whose result did not get to stdout has failed.
int written_out(int code) {
  const bool written = std::cout.flush() && std::fflush(stdout) == 0 && !std::ferror(stdout);
  if (written || code != 0) return code;
  std::fprintf(stderr, "pleat: the result could not be written to the standard output: %s\n", std::strerror(errno));
  return kExitFailed;
}

constexpr std::chrono::minutes kSlowWork{30};  // of rank 0, which beats, but not for ranks of other hosts

// Says that this rank is alive while it works by itself.
class Beats {
 public:
  explicit Beats(Communicator& communicator)
      : thread_([this, &communicator] {
          std::unique_lock lock(mutex_);
          while (!over_) {
            communicator.ledger().beat();
            done_.wait_for(lock, communicator.timeout() / 4);
          }
        }) {}
  ~Beats() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    done_.notify_one();
    thread_.join();
  }
  Beats(const Beats&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable done_;
  bool over_ = false;
  std::thread thread_;
};

}  // namespace

int exit_code(const Error& error) {
  switch (error.kind()) {
    case ErrorKind::invalid:
    case ErrorKind::unimplemented:
      return kExitInvalid;
    case ErrorKind::peer_lost:
      return kExitPeerLost;
    default:
      return kExitFailed;
  }
}

bool ends_in_order(const Error& error) {
  return error.kind() != ErrorKind::peer_lost && dynamic_cast<const StepError*>(&error) == nullptr;
}

int with_ranks(const CommonOptions& options, RunsOn runs_on, const std::function<int(Communicator&)>& body) {
  const int threads = options.threads > 0 ? options.threads : default_threads();
  const std::unique_ptr<Communicator> communicator = join_ranks(threads, milliseconds(options.step_timeout));
  int code = 0;
  try {
    try {
      require_device(options, runs_on);
    } catch (const Error& error) {
      throw SharedError(error.kind(), error.what());
    }
    code = body(*communicator);
  } catch (const SharedError& error) {
    if (communicator->rank() == 0) print_error(error);
    code = exit_code(error);
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::peer_lost) throw;
    if (communicator->ranks() > 1) {
      // This rank alone may have failed, so there is nobody to agree with. Where all found the same, rank 0 speaks
      // first and mpirun ends the others a second later.
      if (communicator->rank() > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1500));
      throw;
    }
    print_error(error);
    code = exit_code(error);
  }
  code = written_out(code);
  communicator->barrier("end");
  leave_ranks();
  return code;
}

int say_once(const std::string& text, std::FILE* out, int code) {
  const std::unique_ptr<Communicator> communicator = join_ranks(1, std::chrono::seconds(30));
  if (communicator->rank() == 0) std::fputs(text.c_str(), out);
  std::fflush(out);
  if (out == stdout) code = written_out(code);
  communicator->barrier("end");
  leave_ranks();
  return code;
}

void share_failure(Communicator& communicator, const std::function<void()>& work) {
  struct Verdict {
    int32_t good = 1;
    ErrorKind kind = ErrorKind::failed;
    int64_t length = 0;
  } verdict;
  std::string message;
  if (communicator.rank() == 0) {
    try {
      work();
    } catch (const Error& error) {
      if (!ends_in_order(error)) throw;
      message = error.what();
      verdict = {0, error.kind(), int64_t(message.size())};
    } catch (const std::exception& error) {
      message = error.what();
      verdict = {0, ErrorKind::failed, int64_t(message.size())};
    }
  }
  communicator.broadcast("verdict", std::as_writable_bytes(std::span(&verdict, 1)));
  if (verdict.good) return;
  message.resize(size_t(verdict.length));
  communicator.broadcast("verdict", std::as_writable_bytes(std::span(message)));
  throw SharedError(verdict.kind, message);
}

void agree(Communicator& communicator, const std::function<void()>& work) {
  std::exception_ptr failure;
  if (communicator.rank() == 0) {
    const Beats beats(communicator);
    try {
      work();
    } catch (const std::exception&) {
      failure = std::current_exception();
    }
  }
  communicator.barrier_after("alone", kSlowWork);
  share_failure(communicator, [&] {
    if (failure) std::rethrow_exception(failure);
  });
}

void lead(Communicator& communicator, Engine& engine, const Tokenizer* tokenizer, const SchedulerOptions& options,
          const std::function<void(Scheduler&)>& body) {
  std::optional<Scheduler> scheduler;
  agree(communicator, [&] { scheduler.emplace(engine, communicator, *tokenizer, options); });
  std::exception_ptr failure;
  if (communicator.rank() == 0) {
    try {
      try {
        body(*scheduler);
      } catch (const Error& error) {
        if (ends_in_order(error)) scheduler->stop();
        throw;
      }
      scheduler->stop();
    } catch (const Error& error) {
      if (!ends_in_order(error)) throw;
      failure = std::current_exception();
    }
  } else {
    serve_steps(engine, communicator);
  }
  share_failure(communicator, [&] {
    if (failure) std::rethrow_exception(failure);
  });
}

}  // namespace pleat
