#include <chrono>
#include <csignal>
#include <iostream>
#include <memory>
#include <optional>

#include <CLI/CLI.hpp>

#include "core/engine/scheduler.h"
#include "core/text/model_text.h"
#include "launcher/command.h"
#include "launcher/interrupt.h"
#include "launcher/job.h"
#include "launcher/model_folder.h"
#include "launcher/preflight.h"
#include "launcher/progress.h"
#include "launcher/request_flags.h"
#include "launcher/summary.h"
#include "launcher/together.h"

namespace pleat {
namespace {

struct GenerateOptions {
  CommonOptions common;
  std::string model;
  bool dense = false, chat = false;
  std::optional<std::string> prompt;
  std::string input, output;
  bool resume = false;
  SamplingOptions sampling;
  SchedulerOptions scheduler;
};

// Of a batch job; open before the weights are loaded, so that a wrong name costs no time.
struct JobFiles {
  explicit JobFiles(const GenerateOptions& options) : input(options.input), output(options.output, options.resume) {
    std::signal(SIGPIPE, SIG_IGN);  // a reader that leaves is an error, and said
    for (const std::string& model : output.models())
      PLEAT_REQUIRE(model == model_name(options.model), "'", options.output, "' holds texts of the model '", model,
                    "': --resume continues them with that one");
  }
  JobInput input;
  JobOutput output;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void run_prompt(const GenerateOptions& options, Scheduler& scheduler, const ModelText& text,
                const InterruptGuard& interrupt, RunSummary& summary) {
  const bool stream = !options.common.json;
  Request request;
  request.id = "prompt";
  request.prompt = options.chat ? text.chat_tokens({{{"role", "user"}, {"content", *options.prompt}}})
                                : text.tokenizer.encode_with_special(*options.prompt);
  request.sampling = options.sampling;
  std::optional<Completion> completion;
  scheduler.submit(
      std::move(request), [&](Completion done) { completion = std::move(done); },
      [&](const std::string&, const Piece& piece) {
        if (stream) std::cout << piece.text << std::flush;
      });
  while (!interrupt.signal() && scheduler.step()) {
  }
  if (completion && completion->error) throw *completion->error;
  if (stream) std::cout << std::endl;
  if (!completion) return;
  summary.requests = 1;
  if (!stream)
    std::cout << completion_body("1", options.chat, *completion, model_name(options.model), text.tokenizer)
                     .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)
              << std::endl;
}

void run_batch(const GenerateOptions& options, JobFiles& files, Scheduler& scheduler, const ModelText& text,
               const InterruptGuard& interrupt, RunSummary& summary) {
  Job job(files.input, files.output, scheduler, text, options.sampling, model_name(options.model),
          milliseconds(options.common.step_timeout / 4));
  Progress progress("generate", files.input.total(), options.common.quiet);
  const auto start = std::chrono::steady_clock::now();
  const auto detail = [&] {
    const int64_t rate = int64_t(double(scheduler.generated_tokens()) / std::max(1e-9, seconds_since(start)));
    return concat(rate, " tok/s, ", scheduler.running(), " running");
  };
  while (!interrupt.signal() && job.advance()) progress.update(job.counts().done(), detail());
  job.finish();
  progress.update(job.counts().done());
  const std::string end = interrupt.signal() ? "interrupted; --resume continues" : "";
  progress.finish(end);
  if (options.common.quiet && !end.empty()) std::cerr << "pleat: " << end << "\n";
  summary.requests = job.counts().completed;
  summary.errors = job.counts().errors;
  summary.skipped = job.counts().skipped;
}

int generate(const GenerateOptions& options, Communicator& communicator) {
  const bool leads = communicator.rank() == 0;
  std::optional<JobFiles> files;
  std::optional<ModelText> text;
  agree(communicator, [&] {
    validate(options.sampling);
    check_model(options.model, communicator.ranks(), reduction_kind(options.common));
    text = ModelText::open(options.model);
    if (!options.prompt) files.emplace(options);
  });
  if (!options.common.quiet) print_short_preflight(communicator);

  const ModelOptions folder{options.model, options.dense, engine_options(options.common, options.scheduler)};
  LoadedModel model = load_on_ranks(folder, options.common, communicator);

  const InterruptGuard interrupt;
  RunSummary summary;
  int signal = 0;
  lead(communicator, *model.engine, text ? &text->tokenizer : nullptr, options.scheduler, [&](Scheduler& scheduler) {
    const auto start = std::chrono::steady_clock::now();
    files ? run_batch(options, *files, scheduler, *text, interrupt, summary)
          : run_prompt(options, scheduler, *text, interrupt, summary);
    summary.seconds = seconds_since(start);
    summary.tokens = scheduler.generated_tokens();
    summary.prompt_tokens = scheduler.prompt_tokens() + scheduler.reused_tokens();
    signal = interrupt.signal();
  });
  summary.ranks = gather_costs(communicator, model);
  if (leads && options.common.json) std::cout << to_json(summary).dump() << std::endl;
  if (leads && !options.common.quiet) std::cerr << to_text(summary);
  return signal ? 128 + signal : 0;
}

}  // namespace

void add_generate(CLI::App& app, Command& command) {
  auto options = std::make_shared<GenerateOptions>();
  CLI::App& sub = *app.add_subcommand("generate", "Write texts: of one prompt, or of a file of requests");
  sub.footer(
      "One prompt, written as it comes:\n"
      "  pleat generate --model models/pleat-gpt2-9m --prompt 'The shared library'\n"
      "A batch job on 4 ranks; after any crash the same line continues it:\n"
      "  mpirun -np 4 pleat generate --model DIR --input in.jsonl --output out.jsonl --resume\n"
      "Lines of the input, short or as an OpenAI batch; flags stand for the fields a line does not give:\n"
      "  {\"custom_id\": \"a\", \"prompt\": \"Once\", \"max_tokens\": 20}\n"
      "  {\"custom_id\": \"b\", \"method\": \"POST\", \"url\": \"/v1/completions\", \"body\": {\"prompt\": \"Once\"}}\n"
      "  {\"custom_id\": \"c\", \"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}");
  sub.add_option("--model", options->model, "Model folder")->required();
  CLI::Option* prompt = sub.add_option("--prompt", options->prompt, "Continue this text");
  CLI::Option* input = sub.add_option("--input", options->input, "Requests, one JSON object a line");
  CLI::Option* output = sub.add_option("--output", options->output, "Responses, one JSON object a line");
  CLI::Option* resume = sub.add_flag(
      "--resume", options->resume,
      "Continue an output that is there already, with the same model; what has a record, an error's too, stays");
  sub.add_flag("--chat", options->chat, "The prompt is a user's message to a chat model")->needs(prompt);
  input->needs(output)->excludes(prompt);
  output->needs(input);
  resume->needs(output);
  sub.add_flag("--dense", options->dense, "Run a folded model densely");

  add_sampling_flags(sub, options->sampling);
  add_scheduler_flags(sub, options->scheduler);
  add_common_flags(sub, options->common);
  add_rank_flags(sub, options->common);
  add_cache_flags(sub, options->common);
  sub.callback([options, &command] {
    if (!options->prompt && options->input.empty()) throw CLI::RequiredError("--prompt or --input");
    command.run = [options] {
      return with_ranks(options->common, RunsOn::any_device,
                        [&](Communicator& communicator) { return generate(*options, communicator); });
    };
  });
}

}  // namespace pleat
