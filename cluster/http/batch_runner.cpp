#include "cluster/http/batch_runner.h"

#include <unistd.h>

#include <ctime>
#include <filesystem>
#include <optional>

#include "cluster/http/batch_lines.h"
#include "kernels/check.h"

namespace pleat {
namespace {

using nlohmann::ordered_json;

constexpr int kLines = 8;                            // under way
constexpr auto kBusyPause = 500 * kj::MILLISECONDS;  // before a line is tried again
constexpr auto kAgainPause = 5 * kj::SECONDS;        // before a batch is, whose state could not be written

}  // namespace

// One batch while it runs.
struct BatchRunner::Run {
  Run(Batch& batch, std::shared_ptr<BatchLines> lines_)
      : batch(batch), lines(std::move(lines_)), completed(lines->completed()), failed(lines->failed()) {}

  bool expired() const { return batch.shown["expires_at"] <= std::time(nullptr); }
  bool stops() const { return batch.cancelled() || expired(); }
  void count() { batch.shown["request_counts"].update({{"completed", completed}, {"failed", failed}}); }

  Batch& batch;
  const std::shared_ptr<BatchLines> lines;  // of the disk's thread
  int64_t completed, failed;                // records on disk
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

// A line that was looked for, and its answer.
struct BatchRunner::Line {
  bool ended = false;  // there was none
  std::optional<BatchLine> found;
  Answer answer;
};

BatchRunner::BatchRunner(kj::Timer& timer, FileStore& store, Batches& batches, WorkThread& disk,
                         const HttpLimits& limits, Ask ask)
    : timer_(timer),
      store_(store),
      batches_(batches),
      disk_(disk),
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
  const BatchPlan plan{store_.path(batch.shown["input_file_id"]),
                       store_.path(batch.output),
                       store_.path(batch.errors),
                       batch.chat(),
                       limits_.framing.body_bytes,
                       limits_.openai};
  const auto lines = std::make_shared<std::optional<BatchLines>>();
  return disk_.run([lines, plan] { lines->emplace(plan); }).then([this, &batch, lines] {
    auto run = kj::heap<Run>(batch, std::shared_ptr<BatchLines>(lines, &**lines));
    Run& it = *run;
    it.count();
    if (batch.status() == "validating") batches_.turn(batch, "in_progress");
    kj::Vector<kj::Promise<void>> workers;
    for (int i = 0; i < kLines; ++i) workers.add(work(it));
    return kj::joinPromises(workers.releaseAsArray()).then([this, &it] { finish(it); }).attach(kj::mv(run));
  });
}

kj::Promise<void> BatchRunner::work(Run& run) {
  if (run.stops()) return kj::READY_NOW;
  const auto line = std::make_shared<Line>();
  auto looked = disk_.run([lines = run.lines, line] {
    line->found = lines->next();
    line->ended = lines->ended();
  });
  return looked.then([this, &run, line]() -> kj::Promise<void> {
    if (line->ended || run.stops()) return kj::READY_NOW;
    return take(run, *line).attach(kj::heap(line)).then([this, &run] { return work(run); });
  });
}

// Ready when the line's record is on disk.
kj::Promise<void> BatchRunner::take(Run& run, Line& line) {
  if (!line.found) return kj::READY_NOW;
  return line.found->error.empty() ? ask(run, line) : append(run, false, line.found->error);
}

// Where nobody has room it waits and asks again: a line does not fail because the servers are busy or away.
kj::Promise<void> BatchRunner::ask(Run& run, Line& line) {
  line.answer.status = 0;
  line.answer.body.clear();
  auto answered = kj::evalNow([&] { return ask_(line.found->request, line.answer); });
  return answered
      .catch_([&line](kj::Exception&& exception) {
        line.answer.status = 500;
        line.answer.body = ordered_json{{"error", {{"message", exception.getDescription().cStr()}}}}.dump();
      })
      .then([this, &run, &line]() -> kj::Promise<void> {
        const int status = line.answer.status;
        if (status != 429 && status != 503)
          return append(
              run, status == 200,
              response_line(line.found->record, status, ordered_json::parse(line.answer.body, nullptr, false)));
        if (run.stops()) return kj::READY_NOW;
        return timer_.afterDelay(kBusyPause).then([this, &run, &line] { return ask(run, line); });
      });
}

kj::Promise<void> BatchRunner::append(Run& run, bool succeeded, std::string record) {
  auto written =
      disk_.run([lines = run.lines, succeeded, record = std::move(record)] { lines->append(succeeded, record); });
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
  store_.describe(file);
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
