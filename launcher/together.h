#pragma once
// Ranks that begin and end together: one voice, one exit code.
#include <cstdio>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/engine/scheduler.h"
#include "kernels/check.h"
#include "launcher/command.h"
#include "parallel/communicator.h"

namespace pleat {

constexpr int kExitFailed = 1;
constexpr int kExitInvalid = 2;

int exit_code(const Error& error);

// An error that every rank has at the same place, so that all can leave in order and rank 0 alone speaks.
class SharedError : public Error {
 public:
  using Error::Error;
};

// Whether the others can still be told: not where one is lost, or waits in a step that has failed on this rank.
bool ends_in_order(const Error& error);

// Joins the ranks, runs `body` and leaves in order. An Error of the body becomes an exit code and one line
// "pleat: <sentence>" on stderr: from rank 0 alone for a SharedError, and from rank 0 first for any other.
int with_ranks(const CommonOptions& options, RunsOn runs_on, const std::function<int(Communicator&)>& body);

// For what every rank finds out before it joins, like a wrong flag: rank 0 writes `text` to `out`, all return `code`.
int say_once(const std::string& text, std::FILE* out, int code);

// Runs `work` on rank 0; an Error it throws is thrown as a SharedError by all ranks.
void share_failure(Communicator& communicator, const std::function<void()>& work);

// The same where rank 0 works alone, without a collective, however long it takes.
void agree(Communicator& communicator, const std::function<void()>& work);

// Rank 0 makes a scheduler and runs `body` with it while the others follow its steps; whatever happens they are let go,
// and an Error of the body is thrown as a SharedError by all ranks.
void lead(Communicator& communicator, Engine& engine, const Tokenizer* tokenizer, const SchedulerOptions& options,
          const std::function<void(Scheduler&)>& body);

// Every rank's `mine`, in rank order, on rank 0; empty on the others. T is copied as bytes.
template <class T>
std::vector<T> gather_values(Communicator& communicator, const char* name, const T& mine) {
  const bool root = communicator.rank() == 0;
  std::vector<T> all(root ? size_t(communicator.ranks()) : 0);
  const std::vector<int64_t> counts(size_t(communicator.ranks()), int64_t(sizeof(T)));
  communicator.gather(name, std::as_bytes(std::span(&mine, 1)), counts,
                      root ? reinterpret_cast<std::byte*>(all.data()) : nullptr);
  return all;
}

}  // namespace pleat
