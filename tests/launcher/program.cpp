#include "tests/launcher/program.h"

#include <cstdlib>
#include <iterator>
#include <sstream>

#include <sys/wait.h>
#include <unistd.h>

namespace pleat::test {
namespace {

std::string text_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

Outcome shell(const std::string& command) {
  const Scratch scratch;
  const std::string line =
      "{ " + command + "\n} >'" + scratch.path("out") + "' 2>'" + scratch.path("err") + "' </dev/null";
  const int status = std::system(line.c_str());
  Outcome outcome;
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  outcome.out = scratch.read("out");
  outcome.err = scratch.read("err");
  return outcome;
}

std::string pleat_command(const std::string& arguments, int ranks) {
  const std::string program = std::string(PLEAT_BUILD_DIR) + "/pleat " + arguments;
  if (ranks == 0) return program;
  return "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 "
         "OMPI_MCA_btl_vader_single_copy_mechanism=none mpirun --bind-to none -np " +
         std::to_string(ranks) + " " + program + " --threads 1";
}

Outcome pleat(const std::string& arguments, int ranks) { return shell(pleat_command(arguments, ranks)); }

std::vector<std::string> own_errors(const Outcome& outcome) {
  std::vector<std::string> lines;
  std::istringstream in(outcome.err);
  for (std::string line; std::getline(in, line);)
    if (line.rfind("pleat: ", 0) == 0) lines.push_back(line);
  return lines;
}

std::string model() { return std::string(PLEAT_SOURCE_DIR) + "/models/pleat-gpt2-9m"; }

std::string Scratch::write(const std::string& name, const std::string& text) const { return folder_.write(name, text); }

std::string Scratch::read(const std::string& name) const { return text_of(folder_ / name); }

std::vector<nlohmann::json> Scratch::records(const std::string& name) const {
  std::vector<nlohmann::json> all;
  for (const std::string& line : lines(name)) all.push_back(nlohmann::json::parse(line));
  return all;
}

std::multiset<std::string> Scratch::lines(const std::string& name) const {
  std::multiset<std::string> all;
  std::istringstream in(read(name));
  for (std::string line; std::getline(in, line);) all.insert(line);
  return all;
}

}  // namespace pleat::test
