#pragma once
// The output of a batch job: append-only, one line a record, each on disk before the next; or a pipe.
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <unordered_set>

#include <nlohmann/json_fwd.hpp>

namespace pleat {

// Whatever happens to the process, the file holds whole lines and at most one cut-off line at its end, which the next
// resume removes.
class JobOutput {
 public:
  // Locks the file against a second job. Without `resume` it must be absent or empty; with it, the records in it count
  // as done. Error(invalid) if it is not empty, locked, or no output of such a job, which stays as it is, or
  // a pipe that nobody reads. `mode`: of a file that is made.
  JobOutput(const std::string& path, bool resume, unsigned mode = 0644);
  ~JobOutput();
  JobOutput(const JobOutput&) = delete;

  // Is there a record of this id, or an error record of this line of the input?
  bool holds(const std::string& custom_id) const { return ids_.count(custom_id) > 0; }
  bool holds_line(int64_t line) const { return lines_.count(line) > 0; }
  // That its texts are of, where they say so.
  const std::set<std::string>& models() const { return models_; }
  // Records that it held when it was opened.
  int64_t held() const { return int64_t(ids_.size() + lines_.size()); }

  // `line` without its newline, on disk on return. Error(failed) if it cannot be written; the file is then as before.
  void append(std::string line);

 private:
  void read_records();
  void note(const nlohmann::json& record, int64_t number);
  void write_file(const std::string& line);
  void write_stream(std::string_view line);

  const std::string path_;
  const bool is_stream_;
  int file_ = -1;
  std::unordered_set<std::string> ids_;
  std::unordered_set<int64_t> lines_;
  std::set<std::string> models_;
};

}  // namespace pleat
