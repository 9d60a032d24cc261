#pragma once
// A file that lists replicas, one address a line; what follows a '#' does not count.
#include <ctime>
#include <optional>
#include <string>
#include <vector>

namespace pleat {

class AddressFile {
 public:
  explicit AddressFile(std::string path) : path_(std::move(path)) {}

  // The list, when the file is another one than at the last call. Error(invalid) where it cannot be read or lists
  // nothing; said once for each change.
  std::optional<std::vector<std::string>> changed();

 private:
  const std::string path_;
  std::string seen_;  // what tells files apart
};

}  // namespace pleat
