#pragma once
// A batch job on rank 0: lines in, texts out, as many requests in flight as the scheduler can use.
#include <chrono>
#include <cstdint>
#include <deque>
#include <string>
#include <unordered_set>
#include <utility>

#include "cluster/http/job_output.h"
#include "core/engine/scheduler.h"
#include "launcher/job_record.h"

namespace pleat {

// The input file, line by line; never held as a whole. It may be a pipe whose writer takes its time.
class JobInput {
 public:
  explicit JobInput(const std::string& path);  // Error(invalid) if it cannot be read
  ~JobInput();
  JobInput(const JobInput&) = delete;

  static constexpr size_t kLongest = size_t(64) << 20;  // bytes of a line

  enum class Next { line, not_yet, end };
  // The next line that is not blank; what has not come is waited for until then, and read for a second at most where it
  // comes and comes. Error(failed) where it cannot be read.
  Next next(std::string& text, int64_t& line, std::chrono::steady_clock::time_point until);
  // The last one had more than kLongest bytes; its text is cut off.
  bool cut() const { return cut_; }
  // Lines that are not blank; 0 where the input can only be read once.
  int64_t total() const { return total_; }

 private:
  const std::string path_;
  int fd_ = -1;
  std::string read_;                 // from the file, and not yet given
  size_t at_ = 0, without_end_ = 0;  // of read_: the next line, and up to where it has no end
  bool ended_ = false, cut_ = false;
  bool cutting_ = false;  // a line whose end has not come
  int64_t line_ = 0;
  int64_t total_ = 0;
};

struct JobCounts {
  int64_t completed = 0;  // texts written
  int64_t errors = 0;     // error records written
  int64_t skipped = 0;    // in the output already
  int64_t done() const { return completed + errors + skipped; }
};

class Job {
 public:
  // patience: how long the other ranks may be left without a sign while lines are read, or records written.
  Job(JobInput& input, JobOutput& output, Scheduler& scheduler, const ModelText& text, SamplingOptions defaults,
      std::string model, std::chrono::milliseconds patience);

  // Submits what there is room for, runs one step and writes what it completed. False when all is done.
  bool advance();
  // Writes what is completed, where advance() will not be called again.
  void finish();
  const JobCounts& counts() const { return counts_; }

 private:
  int64_t under_way() const;
  void fill();
  void write(const JobRecord& record, const Completion& completion);
  void write_completed(std::chrono::steady_clock::time_point until);
  void take(JobRecord record);
  void write_error(const JobRecord& record, const std::string& code, const std::string& message, bool by_line = false);

  JobInput& input_;
  JobOutput& output_;
  Scheduler& scheduler_;
  const ModelText& text_;
  SamplingOptions defaults_;
  std::string model_;
  const std::chrono::milliseconds patience_;
  JobCounts counts_;
  bool more_ = true;
  std::unordered_set<std::string> seen_;
  std::deque<std::pair<JobRecord, Completion>> completed_;  // and not yet written
};

}  // namespace pleat
