#include "cluster/line_file.h"

#include <filesystem>
#include <fstream>

#include "kernels/check.h"

namespace pleat {

std::vector<std::string> lines_of(const std::string& file, const char* what) {
  std::error_code unknown;
  PLEAT_REQUIRE(!std::filesystem::is_directory(file, unknown), "'", file, "' is a folder");
  std::ifstream in(file);
  PLEAT_REQUIRE(in.good(), "cannot read the ", what, " in '", file, "'");
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  if (!lines.empty() && lines[0].starts_with("\xef\xbb\xbf")) lines[0].erase(0, 3);
  return lines;
}

}  // namespace pleat
