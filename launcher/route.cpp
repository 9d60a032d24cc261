#include <iostream>
#include <memory>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cluster/address.h"
#include "cluster/http/router_server.h"
#include "launcher/command.h"
#include "launcher/interrupt.h"
#include "launcher/tls_flags.h"

namespace pleat {
namespace {

struct RouteOptions {
  RouterServerOptions server;
  double grace = 30, piece_timeout = 30;  // seconds
  bool json = false;
};

int route(RouteOptions options) {
  RouterServerOptions& server = options.server;
  server.grace = milliseconds(options.grace);
  if (server.files.empty()) server.limits.framing.file_bytes = 0;
  server.router.piece_timeout = milliseconds(options.piece_timeout).count() * kj::MILLISECONDS;
  const InterruptGuard interrupt;
  RouterServer router(server);
  const std::string scheme = server.http_tls.any() ? "https://" : "http://";
  if (!server.quiet && !is_loopback(router.address()) && server.api_keys.empty())
    std::cerr << "anyone who reaches " << router.address() << " can use this router: no --api-keys are given\n";
  if (options.json)
    std::cout << nlohmann::ordered_json({{"object", "pleat.routing"}, {"url", scheme + router.address()}}).dump()
              << std::endl;
  else
    std::cout << "listening on " << scheme << router.address() << std::endl;
  router.serve(interrupt.fd());
  return 0;
}

void add_limits(CLI::App& sub, RouteOptions& options) {
  HttpLimits& limits = options.server.limits;
  sub.add_option("--max-connections", limits.connections, "Of clients")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  sub.add_option("--max-body", limits.framing.body_bytes, "Bytes of a request's body")
      ->check(CLI::Range(uint64_t(1024), uint64_t(1) << 30))
      ->capture_default_str();
  sub.add_option("--max-file", limits.framing.file_bytes, "Bytes of a file with --files")
      ->check(CLI::Range(uint64_t(1024), uint64_t(1) << 40))
      ->default_val(uint64_t(200) << 20);
  sub.add_option("--max-tokens", limits.openai.max_tokens,
                 "Largest max_tokens of a request, and what a chat has without one")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  sub.add_option("--max-texts", limits.client_texts,
                 "Texts under way of one client: of an API key, or of an address where none is asked for")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
}

}  // namespace

void add_route(CLI::App& app, Command& command) {
  auto options = std::make_shared<RouteOptions>();
  CLI::App& sub = *app.add_subcommand("route", "Spread requests over servers, behind OpenAI's HTTP API");
  sub.footer(
      "Two servers, each an MPI job, and a router in front; it needs no MPI:\n"
      "  mpirun -np 4 pleat serve --model DIR --listen 127.0.0.1:7532\n"
      "  mpirun -np 4 pleat serve --model DIR --listen 127.0.0.1:7533\n"
      "  pleat route --replica 127.0.0.1:7532 127.0.0.1:7533\n"
      "  listening on http://127.0.0.1:8000\n"
      "Any client of OpenAI's API, for instance\n"
      "  curl http://127.0.0.1:8000/v1/completions -d '{\"prompt\": \"Once\", \"max_tokens\": 20}'\n"
      "or a browser at that address. A text whose server dies goes on at another one.\n"
      "Replicas can come from a file, one address a line, which is read again when it changes:\n"
      "  pleat route --replicas FILE --http 0.0.0.0:8000 --api-keys KEYS --tls-certificate CERT --tls-key KEY\n"
      "SIGTERM: nothing new is taken, what runs may finish within --grace, exit 0.");
  CLI::Option* replicas =
      sub.add_option("--replica", options->server.replicas, "Servers: HOST, HOST:PORT or unix:PATH, one or more");
  sub.add_option("--replicas", options->server.replica_file, "A file that lists them")->excludes(replicas);
  sub.add_option("--http", options->server.http,
                 "Where clients come: HOST, HOST:PORT or unix:PATH; port 0: any free one")
      ->default_val("127.0.0.1:8000");
  sub.add_option("--allowed-hosts", options->server.hosts,
                 "Names, besides this machine's, under which clients and the pages of browsers may ask; a proxy's, for "
                 "instance. None: any, or at a loopback address only this machine's");
  sub.add_option("--api-keys", options->server.api_keys, "A file of keys, one a line, of which a client needs one");
  sub.add_option("--files", options->server.files,
                 "A folder for /v1/files and /v1/batches; a router that is started again goes on with its batches");
  add_server_tls_flags(sub, options->server.http_tls);
  add_client_tls_flags(sub, options->server.rpc_tls);
  sub.add_option("--grace", options->grace, "Seconds for what is under way when the router shall end")
      ->check(number_between(0.0, 86400.0))
      ->capture_default_str();
  sub.add_option("--piece-timeout", options->piece_timeout,
                 "Seconds that a text may stand still before another server goes on with it")
      ->check(number_between(0.1, 86400.0))
      ->capture_default_str();
  add_limits(sub, *options);
  sub.add_flag("--json", options->json, "The line that says where it listens as JSON");
  sub.add_flag("--quiet", options->server.quiet, "No lines on stderr when servers come and go");
  sub.callback([options, &command] {
    if (options->server.replicas.empty() && options->server.replica_file.empty())
      throw CLI::RequiredError("--replica or --replicas");
    command.run = [options] { return route(*options); };
  });
}

}  // namespace pleat
