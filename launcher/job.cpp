#include "launcher/job.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <utility>
#include <vector>

#include "kernels/check.h"

namespace pleat {
namespace {

// Enough that the batch never runs dry while lines are read; few enough that memory does not depend on the input.
constexpr int64_t kInFlight = 256;

bool is_blank(const std::string& text) { return text.find_first_not_of(" \t\r") == std::string::npos; }

// Lines that are not blank.
int64_t lines_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::vector<char> bytes(1 << 20);
  int64_t lines = 0;
  bool blank = true;
  while (in.read(bytes.data(), std::streamsize(bytes.size())), in.gcount() > 0)
    for (const char c : std::span(bytes.data(), size_t(in.gcount()))) {
      lines += c == '\n' && !blank;
      blank = c == '\n' || (blank && (c == ' ' || c == '\t' || c == '\r'));
    }
  return lines + !blank;
}

}  // namespace

JobInput::JobInput(const std::string& path) : path_(path), fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  PLEAT_REQUIRE(fd_ >= 0 && !std::filesystem::is_directory(path), "cannot read input '", path, "'");
  if (std::filesystem::is_regular_file(path)) total_ = lines_of(path);
}

JobInput::~JobInput() { close(fd_); }

JobInput::Next JobInput::next(std::string& text, int64_t& line, std::chrono::steady_clock::time_point until) {
  using Clock = std::chrono::steady_clock;
  const auto last = std::max(until, Clock::now()) + std::chrono::seconds(1);
  for (;;) {
    const size_t end = std::min(read_.find('\n', without_end_), read_.size());
    if (end < read_.size() || (ended_ && at_ < end)) {
      cut_ = std::exchange(cutting_, false) || end - at_ > kLongest;
      text = read_.substr(at_, std::min(end - at_, kLongest));
      without_end_ = at_ = std::min(end + 1, read_.size());
      line = ++line_;
      if (!is_blank(text)) return Next::line;
      continue;
    }
    if (ended_) return Next::end;
    read_.erase(0, std::exchange(at_, 0));
    cutting_ = cutting_ || read_.size() > kLongest;
    if (cutting_) read_.resize(kLongest);
    without_end_ = read_.size();
    if (Clock::now() > last) return Next::not_yet;
    pollfd wanted{fd_, POLLIN, 0};
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now());
    if (poll(&wanted, 1, int(std::max<int64_t>(0, left.count()))) <= 0) return Next::not_yet;
    char bytes[1 << 16];
    const ssize_t count = ::read(fd_, bytes, sizeof bytes);
    if (count < 0 && errno == EINTR) return Next::not_yet;
    if (count < 0) throw Error(ErrorKind::failed, concat("cannot read input '", path_, "': ", std::strerror(errno)));
    ended_ = count == 0;
    read_.append(bytes, size_t(count));
  }
}

Job::Job(JobInput& input, JobOutput& output, Scheduler& scheduler, const ModelText& text, SamplingOptions defaults,
         std::string model, std::chrono::milliseconds patience)
    : input_(input),
      output_(output),
      scheduler_(scheduler),
      text_(text),
      defaults_(std::move(defaults)),
      model_(std::move(model)),
      patience_(patience) {}

int64_t Job::under_way() const { return scheduler_.queued() + scheduler_.running() + int64_t(completed_.size()); }

bool Job::advance() {
  fill();
  const bool stepped = scheduler_.step();
  if (!stepped && more_) scheduler_.idle();
  write_completed(std::chrono::steady_clock::now() + patience_);
  return stepped || more_ || !completed_.empty();
}

void Job::finish() { write_completed(std::chrono::steady_clock::time_point::max()); }

void Job::write_completed(std::chrono::steady_clock::time_point until) {
  for (; !completed_.empty() && std::chrono::steady_clock::now() < until; completed_.pop_front())
    write(completed_.front().first, completed_.front().second);
}

void Job::write(const JobRecord& record, const Completion& completion) {
  if (completion.error) return write_error(record, "not_finite", completion.error->what());
  output_.append(completion_line(record, completion, model_, text_.tokenizer));
  ++counts_.completed;
}

void Job::fill() {
  const auto start = std::chrono::steady_clock::now();
  std::string text;
  int64_t line = 0;
  for (int64_t lines = 0; more_ && lines < kInFlight && under_way() < kInFlight; ++lines) {
    if (std::chrono::steady_clock::now() > start + patience_) return;
    const JobInput::Next next = input_.next(text, line, under_way() > 0 ? start : start + patience_);
    more_ = next != JobInput::Next::end;
    if (next != JobInput::Next::line) return;
    if (!input_.cut()) {
      take(parse_record(text, line, defaults_, text_));
      continue;
    }
    JobRecord record;
    record.line = line;
    write_error(record, "invalid_request", concat("line ", line, " has more than ", JobInput::kLongest, " bytes"));
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
