#include "cluster/router/address_file.h"

#include <sstream>

#include "cluster/line_file.h"
#include "kernels/check.h"

namespace pleat {

std::optional<std::vector<std::string>> AddressFile::changed() {
  if (!file_.changed()) return std::nullopt;
  std::vector<std::string> addresses;
  for (const std::string& line : lines_of(path_, "replicas")) {
    std::istringstream words(line.substr(0, line.find('#')));
    for (std::string address; words >> address;) addresses.push_back(address);
  }
  PLEAT_REQUIRE(!addresses.empty(), "'", path_, "' lists no replica");
  return addresses;
}

}  // namespace pleat
