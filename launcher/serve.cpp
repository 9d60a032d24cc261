#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <optional>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cluster/address.h"
#include "cluster/server.h"
#include "launcher/command.h"
#include "launcher/identity.h"
#include "launcher/interrupt.h"
#include "launcher/model_folder.h"
#include "launcher/preflight.h"
#include "launcher/request_flags.h"
#include "launcher/tls_flags.h"
#include "launcher/together.h"

namespace pleat {
namespace {

constexpr double kAfterGrace = 10;      // seconds that the guardians leave for what follows the grace time
constexpr int64_t kRecallEvery = 1024;  // steps; one more reading of W1 in each

struct ServeOptions {
  CommonOptions common;
  std::string model;
  bool dense = false;
  std::string listen = "127.0.0.1";
  TlsFiles tls;
  double grace = 30;  // seconds
  ServerLimits limits;
  SchedulerOptions scheduler;
};

std::string text_of(const std::string& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

ModelInfo info_of(const ServeOptions& options, const Blueprint& blueprint, int ranks) {
  const CommonOptions& common = options.common;
  const std::string identity = identity_of(
      options.model, concat(common.device, ' ', common.dtype, ' ', common.reduction, ' ', common.kv_format, ' ',
                            common.key_channels, ' ', options.dense, ' ', options.scheduler.fold_prompt, ' ',
                            // Sums in the shortest order differ with the number of ranks and who adds them up.
                            reduction_kind(common) == Reduction::invariant ? "" : concat(ranks, common.device_sums)));
  ModelInfo info{model_name(options.model), blueprint, {}, text_of(options.model + "/fold_report.json"), identity};
  const ShardPlan plan(sizes_of(blueprint), ranks, reduction_kind(options.common));
  for (int rank = 0; rank < ranks; ++rank)
    info.shards.push_back(share_of(blueprint, plan, rank, weight_format_named(options.common.dtype)));
  return info;
}

void say_ready(const ServeOptions& options, const std::string& address, int ranks) {
  if (!options.common.quiet && !is_loopback(address) && options.tls.authorities.empty())
    std::cerr << "anyone who reaches " << address
              << " can use this server and stop it: --tls-clients lets in only those with a certificate\n";
  if (!options.common.json) {
    std::cout << "listening on " << address << std::endl;
    return;
  }
  const nlohmann::ordered_json line = {
      {"object", "pleat.serving"}, {"address", address}, {"model", model_name(options.model)}, {"ranks", ranks}};
  std::cout << line.dump() << std::endl;
}

int serve(const ServeOptions& options, Communicator& communicator) {
  std::optional<ModelText> text;
  std::optional<Server> server;
  agree(communicator, [&] {
    check_model(options.model, communicator.ranks(), reduction_kind(options.common));
    text = ModelText::open(options.model);
    server.emplace(ServerOptions{options.listen, options.tls, milliseconds(options.grace),
                                 milliseconds(options.common.step_timeout / 4), options.limits});
  });
  if (!options.common.quiet) print_short_preflight(communicator);

  ModelOptions folder{options.model, options.dense, engine_options(options.common, options.scheduler)};
  folder.engine.recall_every = kRecallEvery;
  LoadedModel model = load_on_ranks(folder, options.common, communicator);

  std::optional<ModelInfo> info;
  agree(communicator, [&] { info = info_of(options, model.blueprint, communicator.ranks()); });
  communicator.ledger().grace_ns = int64_t((options.grace + kAfterGrace) * 1e9);
  const InterruptGuard interrupt;
  lead(communicator, *model.engine, text ? &text->tokenizer : nullptr, options.scheduler, [&](Scheduler& scheduler) {
    say_ready(options, server->address(), communicator.ranks());
    server->serve(scheduler, *text, *info, interrupt.fd());
  });
  return 0;
}

}  // namespace

void add_serve(CLI::App& app, Command& command) {
  auto options = std::make_shared<ServeOptions>();
  CLI::App& sub = *app.add_subcommand("serve", "Answer requests over Cap'n Proto RPC (cluster/pleat.capnp)");
  sub.footer(
      "On 4 ranks, for programs of this host; one line says when it is ready:\n"
      "  mpirun -np 4 pleat serve --model DIR\n"
      "  listening on 127.0.0.1:7532\n"
      "From another terminal:\n"
      "  pleat ask 127.0.0.1:7532 --prompt 'The shared library'\n"
      "SIGTERM to rank 0, or 'pleat ask ADDR --drain': nothing new is taken, what runs may finish within --grace, exit "
      "0.\n"
      "Who reaches it may use and stop it. Beyond this host let in only those with a certificate by your authority:\n"
      "  pleat serve --model DIR --listen HOST --tls-certificate CERT --tls-key KEY --tls-clients AUTHORITY");
  sub.add_option("--model", options->model, "Model folder")->required();
  sub.add_flag("--dense", options->dense, "Run a folded model densely");
  sub.add_option("--listen", options->listen,
                 "HOST, HOST:PORT or unix:PATH; without a port 7532, with port 0 any free one")
      ->capture_default_str();
  add_server_tls_flags(sub, options->tls);
  sub.add_option("--grace", options->grace, "Seconds that running requests have when the server shall end")
      ->check(number_between(0.0, 86400.0))
      ->capture_default_str();
  sub.add_option("--queue-requests", options->limits.requests,
                 "Requests taken at a time, waiting or running; more are told when to try again")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  sub.add_option("--max-requests-per-client", options->limits.requests_per_connection,
                 "Of these, those of one connection, as a router has one; 0: all")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  sub.add_option("--queue-tokens", options->limits.tokens,
                 "Their prompts and max_tokens together; 0: four times what the key-value cache holds")
      ->check(CLI::Range(int64_t(0), int64_t(1) << 40))
      ->capture_default_str();
  add_scheduler_flags(sub, options->scheduler);
  add_common_flags(sub, options->common);
  add_rank_flags(sub, options->common);
  add_cache_flags(sub, options->common);
  sub.callback([options, &command] {
    options->limits.batch = options->scheduler.max_batch;
    command.run = [options] {
      return with_ranks(options->common, RunsOn::any_device,
                        [&](Communicator& communicator) { return serve(*options, communicator); });
    };
  });
}

}  // namespace pleat
