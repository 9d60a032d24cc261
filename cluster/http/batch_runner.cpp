#include "cluster/http/batch_runner.h"

#include <unistd.h>

#include <ctime>
#include <filesystem>
#include <limits>
#include <unordered_set>

#include "cluster/http/batch_record.h"
#include "cluster/http/job_output.h"
#include "cluster/http/line_reader.h"
#include "kernels/check.h"

namespace pleat {
namespace {

using nlohmann::ordered_json;

constexpr int kLines = 8;                            // under way
constexpr int64_t kTurn = 64;                        // lines between two looks at what else is to be done
constexpr auto kBusyPause = 500 * kj::MILLISECONDS;  // before a line is tried again
constexpr auto kAgainPause = 5 * kj::SECONDS;        // before a batch is, whose state could not be written
constexpr auto kTurnPause = 1 * kj::MILLISECONDS;
constexpr unsigned kOwnersAlone = 0600;  // mode of what a batch writes
constexpr int kPriority = std::numeric_limits<int16_t>::min();

}  // namespace

// One batch while it runs.
struct BatchRunner::Run {
  Run(Batch& batch, const FileStore& store, size_t longest)
      : batch(batch),
        input(store.path(batch.shown["input_file_id"]), longest),
        output(store.path(batch.output), true, kOwnersAlone),
        errors(store.path(batch.errors), true, kOwnersAlone),
        completed(output.held()),
        failed(errors.held()) {}

  bool expired() const { return batch.shown["expires_at"] <= std::time(nullptr); }
  bool stops() const { return batch.cancelled() || expired(); }
  void count() { batch.shown["request_counts"].update({{"completed", completed}, {"failed", failed}}); }

  Batch& batch;
  LineReader input;
  JobOutput output, errors;
  int64_t completed, failed;  // records on disk
  int64_t looked = 0;         // at lines
  std::unordered_set<std::string> seen;
};

// What the door would have sent to a client.
class BatchRunner::Answer final : public kj::HttpService::Response {
 public:
  int status = 0;
  std::string body;

  kj::Own<kj::AsyncOutputStream> send(uint code, kj::StringPtr, const kj::HttpHeaders&, kj::Maybe<uint64_t>) override {
    status = int(code);
    return kj::heap<Body>(body);
  }
  kj::Own<kj::WebSocket> acceptWebSocket(const kj::HttpHeaders&) override {
    throw Error(ErrorKind::unimplemented, "a batch has no web sockets");
  }

 private:
  class Body final : public kj::AsyncOutputStream {
   public:
    explicit Body(std::string& text) : text_(text) {}
    kj::Promise<void> write(const void* bytes, size_t size) override {
      text_.append(static_cast<const char*>(bytes), size);
      return kj::READY_NOW;
    }
    kj::Promise<void> write(kj::ArrayPtr<const kj::ArrayPtr<const kj::byte>> pieces) override {
      for (const auto piece : pieces) text_.append(reinterpret_cast<const char*>(piece.begin()), piece.size());
      return kj::READY_NOW;
    }
    kj::Promise<void> whenWriteDisconnected() override { return kj::NEVER_DONE; }

   private:
    std::string& text_;
  };
};

// A record's request and its answer.
struct BatchRunner::Line {
  BatchRecord record;
  OpenAiRequest request;
  Answer answer;
};

BatchRunner::BatchRunner(kj::Timer& timer, FileStore& store, Batches& batches, const HttpLimits& limits, Ask ask)
    : timer_(timer),
      store_(store),
      batches_(batches),
      limits_(limits),
      ask_(std::move(ask)),
      running_(kj::evalLater([this] { return run_all(); }).eagerlyEvaluate(nullptr)) {}

BatchRunner::~BatchRunner() noexcept(false) = default;

void BatchRunner::wake() {
  if (wake_.get()) wake_->fulfill();
}

kj::Promise<void> BatchRunner::run_all() {
  Batch* const batch = batches_.next();
  if (!batch) {
    auto woken = kj::newPromiseAndFulfiller<void>();
    wake_ = kj::mv(woken.fulfiller);
    return woken.promise.then([this] { return run_all(); });
  }
  return kj::evalNow([&] { return run_one(*batch); })
      .catch_([this, batch](kj::Exception&& exception) -> kj::Promise<void> {
        if (give_up(*batch, exception.getDescription().cStr())) return kj::READY_NOW;
        return timer_.afterDelay(kAgainPause);
      })
      .then([this] { return run_all(); });
}

kj::Promise<void> BatchRunner::run_one(Batch& batch) {
  auto run = kj::heap<Run>(batch, store_, limits_.framing.body_bytes);
  Run& it = *run;
  PLEAT_ASSERT(it.input.good(), "the input file cannot be read");
  it.count();
  if (batch.status() == "validating") batches_.turn(batch, "in_progress");
  kj::Vector<kj::Promise<void>> workers;
  for (int i = 0; i < kLines; ++i) workers.add(work(it));
  return kj::joinPromises(workers.releaseAsArray()).then([this, &it] { finish(it); }).attach(kj::mv(run));
}

kj::Promise<void> BatchRunner::work(Run& run) {
  std::string text;
  BatchRecord record;
  if (run.stops() || !run.input.next(text, record.line)) return kj::READY_NOW;
  if (run.input.cut()) {
    record.error_code = "invalid_request";
    record.error_message = concat("line ", record.line, " has more than ", limits_.framing.body_bytes, " bytes");
  } else {
    record = read_batch_record(text, record.line);
  }
  auto done = take(run, std::move(record));
  if (++run.looked % kTurn == 0) done = done.then([this] { return timer_.afterDelay(kTurnPause); });
  return done.then([this, &run] { return work(run); });
}

// Ready when the record is on disk, or at once where it is already.
kj::Promise<void> BatchRunner::take(Run& run, BatchRecord record) {
  if (record.custom_id.empty()) return fail(run, record, record.error_code, record.error_message);
  if (!run.seen.insert(record.custom_id).second)
    return fail(run, record, "duplicate_custom_id",
                concat("line ", record.line, ": custom_id '", record.custom_id, "' was used by an earlier line"), true);
  if (run.output.holds(record.custom_id) || run.errors.holds(record.custom_id)) return kj::READY_NOW;
  if (!record.error_code.empty()) return fail(run, record, record.error_code, record.error_message);
  try {
    PLEAT_REQUIRE(record.chat == run.batch.chat(), "the batch is for ",
                  run.batch.shown["endpoint"].get_ref<const std::string&>());
    auto line = kj::heap<Line>();
    line->request = read_openai_request(record.body, record.chat, limits_.openai);
    PLEAT_REQUIRE(!line->request.stream, "'stream' is not for batches");
    line->request.priority = kPriority;
    record.body = nullptr;
    line->record = std::move(record);
    auto asked = ask(run, *line);
    return asked.attach(kj::mv(line));
  } catch (const std::exception& error) {  // whatever is wrong with one line, the others go on
    return fail(run, record, "invalid_request", error.what());
  }
}

// Where nobody has room it waits and asks again: a line does not fail because the servers are busy or away.
kj::Promise<void> BatchRunner::ask(Run& run, Line& line) {
  line.answer.status = 0;
  line.answer.body.clear();
  auto answered = kj::evalNow([&] { return ask_(line.request, line.answer); });
  return answered
      .catch_([&line](kj::Exception&& exception) {
        line.answer.status = 500;
        line.answer.body = ordered_json{{"error", {{"message", exception.getDescription().cStr()}}}}.dump();
      })
      .then([this, &run, &line]() -> kj::Promise<void> {
        const int status = line.answer.status;
        if (status != 429 && status != 503)
          return append(run, status == 200,
                        response_line(line.record, status, ordered_json::parse(line.answer.body, nullptr, false)));
        if (run.stops()) return kj::READY_NOW;
        return timer_.afterDelay(kBusyPause).then([this, &run, &line] { return ask(run, line); });
      });
}

kj::Promise<void> BatchRunner::fail(Run& run, const BatchRecord& record, const std::string& code,
                                    const std::string& message, bool by_line) {
  if ((by_line || record.custom_id.empty()) && run.errors.holds_line(record.line)) return kj::READY_NOW;
  return append(run, false, error_line(record, code, message, by_line));
}

kj::Promise<void> BatchRunner::append(Run& run, bool succeeded, std::string line) {
  auto written =
      disk_.run([&file = succeeded ? run.output : run.errors, line = std::move(line)] { file.append(line); });
  return written.then([&run, succeeded] {
    ++(succeeded ? run.completed : run.failed);
    run.count();
  });
}

void BatchRunner::finish(Run& run) {
  const std::string end = run.batch.cancelled() ? "cancelled" : run.expired() ? "expired" : "completed";
  batches_.turn(run.batch, "finalizing");
  publish(run.batch, run.batch.output, "output_file_id", run.completed);
  publish(run.batch, run.batch.errors, "error_file_id", run.failed);
  batches_.turn(run.batch, end);
}

// A file that the batch has written is a file like others, if it holds anything.
void BatchRunner::publish(Batch& batch, const std::string& id, const char* field, int64_t lines) {
  std::error_code absent;
  const auto bytes = std::filesystem::file_size(store_.path(id), absent);
  if (absent) return;
  if (bytes == 0) {
    unlink(store_.path(id).c_str());
    return;
  }
  StoredFile file{id, batch.id() + "_" + field + ".jsonl", "batch_output", 0, lines, std::time(nullptr), batch.owner};
  file.bytes = int64_t(bytes);
  store_.add(file);
  batch.shown[field] = id;
}

bool BatchRunner::give_up(Batch& batch, const std::string& why) {
  Batch failed = batch;
  failed.shown["errors"] = {{"object", "list"},
                            {"data", ordered_json::array({{{"code", "failed"}, {"message", why}}})}};
  try {
    const ordered_json counts = failed.shown["request_counts"];
    publish(failed, failed.output, "output_file_id", counts["completed"]);
    publish(failed, failed.errors, "error_file_id", counts["failed"]);
    batches_.turn(failed, "failed");
    batch = std::move(failed);
    return true;
  } catch (const std::exception&) {
    return false;  // its end cannot be written either: it is tried again
  }
}

}  // namespace pleat
