#pragma once
// What a job says on stderr: passed on as it comes, and its last own line kept as the cause of an end.
#include <string>

namespace pleat {

class JobErrors {
 public:
  explicit JobErrors(int fd) : fd_(fd) {}  // the end of a pipe to read from; closed with it
  ~JobErrors();
  JobErrors(const JobErrors&) = delete;

  int fd() const { return fd_; }
  bool ended() const { return ended_; }                // nobody writes there any more
  const std::string& cause() const { return cause_; }  // of the last line "pleat: ..."

  // Waits until something comes.
  void pass_on();

 private:
  void finish_line();

  int fd_;
  bool ended_ = false;
  std::string line_, cause_;
};

}  // namespace pleat
