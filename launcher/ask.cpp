#include <iostream>
#include <memory>
#include <optional>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cluster/client.h"
#include "cluster/refusal.h"
#include "launcher/command.h"
#include "launcher/request_flags.h"
#include "launcher/tls_flags.h"

namespace pleat {
namespace {

using nlohmann::ordered_json;

struct AskOptions {
  std::string address;
  std::optional<std::string> prompt;
  bool chat = false, info = false, stats = false, drain = false, json = false;
  TlsFiles tls;
  SamplingOptions sampling;
  int priority = 0;
  double deadline = 0, grace = 0;  // seconds
};

std::string dump(const ordered_json& value, int indent) {
  return value.dump(indent, ' ', false, ordered_json::error_handler_t::replace);
}

void fill(const AskOptions& options, rpc::GenerateRequest::Builder request) {
  write_sampling(options.sampling, request.initSampling());
  request.setPriority(int16_t(options.priority));
  request.setDeadlineMs(uint32_t(milliseconds(options.deadline).count()));
  if (!options.chat) return request.initPrompt().setText(options.prompt->c_str());
  auto message = request.initPrompt().initMessages(1)[0];
  message.setRole("user");
  message.setContent(options.prompt->c_str());
}

ordered_json logprob_json(int32_t token, float logprob) { return {{"token", token}, {"logprob", logprob}}; }

ordered_json completion_json(const Completion& completion) {
  ordered_json out = {{"object", "pleat.completion"},
                      {"text", completion.text},
                      {"finish_reason", completion.finish_reason},
                      {"tokens", completion.tokens},
                      {"prompt_tokens", completion.prompt_tokens}};
  for (const TokenLogprob& token : completion.logprobs) {
    ordered_json entry = logprob_json(token.token, token.logprob);
    entry["best"] = ordered_json::array();
    for (const auto& [other, logprob] : token.best) entry["best"].push_back(logprob_json(other, logprob));
    out["logprobs"].push_back(entry);
  }
  return out;
}

void generate(const AskOptions& options, Client& client) {
  const Completion completion = client.generate([&](auto request) { fill(options, request); },
                                                [&](const Growth& growth) {
                                                  if (!options.json) std::cout << growth.text << std::flush;
                                                });
  std::cout << (options.json ? dump(completion_json(completion), -1) : "") << std::endl;
}

int ask(const AskOptions& options) {
  Client client(options.address, options.tls);
  const int indent = options.json ? -1 : 2;
  if (options.prompt) generate(options, client);
  if (options.info) std::cout << dump(client.info(), indent) << std::endl;
  if (options.stats) std::cout << dump(client.stats(), indent) << std::endl;
  if (options.drain) {
    const uint32_t cut_off = client.drain(milliseconds(options.grace));
    std::cout << (options.json ? dump({{"object", "pleat.drained"}, {"cut_off", cut_off}}, -1)
                               : concat("drained, ", cut_off, " requests cut off"))
              << std::endl;
  }
  if (!std::cout) throw Error(ErrorKind::failed, "cannot write to the standard output");
  return 0;
}

// The code, and when to come back, behind the sentence.
int ask_with_codes(const AskOptions& options) {
  try {
    return ask(options);
  } catch (const Refusal& refusal) {
    throw Error(refusal.kind(), concat(refusal.what(), " (", name_of(refusal.code()), ")"));
  }
}

}  // namespace

void add_ask(CLI::App& app, Command& command) {
  auto options = std::make_shared<AskOptions>();
  CLI::App& sub = *app.add_subcommand("ask", "Ask a server that 'pleat serve' started");
  sub.footer(
      "The text, written as it comes:\n"
      "  pleat ask 127.0.0.1:7532 --prompt 'The shared library' --max-tokens 20\n"
      "What it serves, what it is doing, and its end:\n"
      "  pleat ask 127.0.0.1:7532 --info\n"
      "  pleat ask 127.0.0.1:7532 --stats --json\n"
      "  pleat ask 127.0.0.1:7532 --drain --grace 5\n"
      "A request that the server refuses for good ends with code 2, any other failure with 1.");
  sub.add_option("address", options->address, "HOST, HOST:PORT or unix:PATH")->required();
  CLI::Option* prompt = sub.add_option("--prompt", options->prompt, "Continue this text");
  CLI::Option* info = sub.add_flag("--info", options->info, "The model, its shards and the server's limits, as JSON");
  CLI::Option* stats = sub.add_flag("--stats", options->stats, "What the server is doing, as JSON");
  CLI::Option* drain = sub.add_flag("--drain", options->drain, "Let it finish what it has, and end");
  prompt->excludes(info, stats, drain);
  sub.add_flag("--chat", options->chat, "The prompt is a user's message to a chat model")->needs(prompt);
  sub.add_option("--priority", options->priority, "Goes before requests with lower ones")
      ->check(CLI::Range(-32768, 32767))
      ->needs(prompt);
  sub.add_option("--deadline", options->deadline, "Seconds until the request is given up; 0: none")
      ->check(number_between(0.0, 86400.0))
      ->needs(prompt);
  sub.add_option("--grace", options->grace, "Seconds for what still runs; without it the server's own")
      ->check(number_between(0.001, 86400.0))
      ->needs(drain);
  sub.add_flag("--json", options->json, "The answer as one JSON object a line");
  add_sampling_flags(sub, options->sampling);
  add_client_tls_flags(sub, options->tls);
  sub.callback([options, &command] {
    if (!options->prompt && !options->info && !options->stats && !options->drain)
      throw CLI::RequiredError("--prompt, --info, --stats or --drain");
    command.run = [options] { return ask_with_codes(*options); };
  });
}

}  // namespace pleat
