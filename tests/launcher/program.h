#pragma once
// Drives the real program the way a user does.
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tests/temporary_folder.h"

namespace pleat::test {

struct Outcome {
  int code = -1;  // 128 + signal where one ended it
  std::string out, err;
};

// A shell command line with its outputs.
Outcome shell(const std::string& command);
// `pleat <arguments>`; with ranks > 0 under mpirun.
Outcome pleat(const std::string& arguments, int ranks = 0);
std::string pleat_command(const std::string& arguments, int ranks = 0);

// The lines that the program itself wrote to stderr, not mpirun.
std::vector<std::string> own_errors(const Outcome& outcome);

// The embedded model.
std::string model();

// A folder that is removed at the end.
class Scratch {
 public:
  std::string path(const std::string& name) const { return folder_ / name; }
  std::string write(const std::string& name, const std::string& text) const;
  std::string read(const std::string& name) const;
  std::vector<nlohmann::json> records(const std::string& name) const;
  // The lines, sorted: the same for jobs that end in another order.
  std::multiset<std::string> lines(const std::string& name) const;

 private:
  TemporaryFolder folder_;
};

}  // namespace pleat::test
