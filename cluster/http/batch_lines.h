#pragma once
// What is left to do of a batch: the lines of its input of which its output and its errors hold no record.
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_set>

#include "cluster/http/batch_record.h"
#include "cluster/http/http_limits.h"
#include "cluster/http/job_output.h"
#include "cluster/http/line_reader.h"
#include "cluster/http/openai_request.h"

namespace pleat {

// The paths of a batch's files, and what its lines may ask for.
struct BatchPlan {
  std::string input, output, errors;
  bool chat = false;         // all of them
  size_t longest = 4 << 20;  // bytes of a line
  OpenAiLimits limits;
};

struct BatchLine {
  BatchRecord record;
  OpenAiRequest request;
  std::string error;  // the record of what is wrong with the line; empty: the request is to be answered
};

class BatchLines {
 public:
  // Makes the output and the errors where they are not there. Error(invalid), Error(failed) where the files cannot be
  // used.
  explicit BatchLines(const BatchPlan& plan);

  // Looks at some lines; none: what it looked at is done already.
  std::optional<BatchLine> next();
  bool ended() const { return ended_; }  // there are no more

  // Records that the files held when they were opened.
  int64_t completed() const { return output_.held(); }
  int64_t failed() const { return errors_.held(); }

  // A record, on disk on return. Error(failed).
  void append(bool succeeded, const std::string& record) { (succeeded ? output_ : errors_).append(record); }

 private:
  std::optional<BatchLine> left_of(BatchRecord record);

  const BatchPlan plan_;
  LineReader input_;
  JobOutput output_, errors_;
  std::unordered_set<std::string> seen_;
  bool ended_ = false;
};

}  // namespace pleat
