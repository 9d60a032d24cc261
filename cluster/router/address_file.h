#pragma once
// A file that lists replicas, one address a line; what follows a '#' does not count.
#include <optional>
#include <string>
#include <vector>

#include "cluster/file_watch.h"

namespace pleat {

class AddressFile {
 public:
  explicit AddressFile(std::string path) : path_(std::move(path)), file_({path_}) {}

  // The list, when the file is another one than at the last call. Error(invalid) where it cannot be read or lists
  // nothing; said once for each change.
  std::optional<std::vector<std::string>> changed();

 private:
  const std::string path_;
  FileWatch file_;
};

}  // namespace pleat
