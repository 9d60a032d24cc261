// pleat: every subcommand is a file of this folder.
#include <csignal>

#include <CLI/CLI.hpp>

#include "launcher/bootstrap.h"
#include "launcher/command.h"
#include "launcher/guardian.h"
#include "launcher/together.h"

namespace {

using namespace pleat;

int run(int argc, char** argv) {
  // A file that reaches the size limit shall be an error with a sentence, not a death.
  std::signal(SIGXFSZ, SIG_IGN);
  take_share_of_cores();
  CLI::App app("pleat: language models with folded feed-forward networks, on one rank or many", "pleat");
  app.footer(
      "Exit codes: 0 done, 1 failed, 2 wrong usage or input, 70 a rank died or was late.\n"
      "'pleat generate --help' shows how to start.");
  app.require_subcommand(0, 1);
  Command command;
  add_generate(app, command);
  add_eval(app, command);
  add_fold(app, command);
  add_quantize(app, command);
  add_inspect(app, command);
  add_check(app, command);
  add_bench(app, command);
  add_serve(app, command);
  add_ask(app, command);
  add_launch(app, command);
  add_route(app, command);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    return say_once(app.help(), stdout, 0);
  } catch (const CLI::ParseError& error) {
    std::string where = "pleat";
    for (auto chosen = app.get_subcommands(); !chosen.empty(); chosen = chosen.front()->get_subcommands())
      where += " " + chosen.front()->get_name();
    return say_once(concat("pleat: ", error.what(), " ('", where, " --help' explains)\n"), stderr, kExitInvalid);
  }
  return command.run ? command.run() : say_once(app.help(), stdout, 0);
}

}  // namespace

int main(int argc, char** argv) { return pleat::run_guarded(argc, argv, run); }
