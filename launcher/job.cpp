#include "launcher/job.h"

#include <filesystem>

#include "kernels/check.h"

namespace pleat {
namespace {

// Enough that the batch never runs dry while lines are read; few enough that memory does not depend on the input.
constexpr int64_t kInFlight = 256;

bool is_blank(const std::string& text) { return text.find_first_not_of(" \t\r") == std::string::npos; }

}  // namespace

JobInput::JobInput(const std::string& path) {
  in_.open(path, std::ios::binary);
  PLEAT_REQUIRE(in_ && !std::filesystem::is_directory(path), "cannot read input '", path, "'");
  if (!std::filesystem::is_regular_file(path)) return;
  std::string text;
  while (std::getline(in_, text)) total_ += !is_blank(text);
  in_.clear();
  in_.seekg(0);
}

bool JobInput::next(std::string& text, int64_t& line) {
  while (std::getline(in_, text)) {
    line = ++line_;
    if (!is_blank(text)) return true;
  }
  return false;
}

Job::Job(JobInput& input, JobOutput& output, Scheduler& scheduler, const ModelText& text, SamplingOptions defaults,
         std::string model)
    : input_(input),
      output_(output),
      scheduler_(scheduler),
      text_(text),
      defaults_(std::move(defaults)),
      model_(std::move(model)) {}

bool Job::advance() {
  fill();
  const bool stepped = scheduler_.step();
  for (const auto& [record, completion] : completed_) {
    if (completion.error) {
      write_error(record, "not_finite", completion.error->what());
      continue;
    }
    output_.append(completion_line(record, completion, model_, text_.tokenizer));
    ++counts_.completed;
  }
  completed_.clear();
  return stepped || more_;
}

void Job::fill() {
  std::string text;
  int64_t line = 0;
  for (int64_t lines = 0; more_ && lines < kInFlight && scheduler_.queued() + scheduler_.running() < kInFlight;
       ++lines) {
    more_ = input_.next(text, line);
    if (more_) take(parse_record(text, line, defaults_, text_));
  }
}

void Job::take(JobRecord record) {
  if (record.custom_id.empty()) return write_error(record, record.error_code, record.error_message);
  if (!seen_.insert(record.custom_id).second) {
    return write_error(record, "duplicate_custom_id",
                       concat("line ", record.line, ": custom_id '", record.custom_id, "' was used by an earlier line"),
                       true);
  }
  if (output_.holds(record.custom_id)) {
    ++counts_.skipped;
    return;
  }
  if (!record.request) return write_error(record, record.error_code, record.error_message);
  Request request = std::move(*record.request);
  record.request.reset();
  try {
    scheduler_.submit(std::move(request), [this, record](Completion completion) {
      completed_.emplace_back(record, std::move(completion));
    });
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::invalid) throw;
    write_error(record, "invalid_request", error.what());
  }
}

void Job::write_error(const JobRecord& record, const std::string& code, const std::string& message, bool by_line) {
  if ((by_line || record.custom_id.empty()) && output_.holds_line(record.line)) {
    ++counts_.skipped;
    return;
  }
  output_.append(error_line(record, code, message, by_line));
  ++counts_.errors;
}

}  // namespace pleat
