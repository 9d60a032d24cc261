#pragma once
// Files that are looked at again and again, because people and programs replace them while a server runs.
#include <string>
#include <vector>

namespace pleat {

class FileWatch {
 public:
  // Names that are empty are no files.
  explicit FileWatch(std::vector<std::string> paths) : paths_(std::move(paths)) {}

  // Any of them is another one than at the last call; the first time, if there are any.
  bool changed();

 private:
  const std::vector<std::string> paths_;
  std::string seen_;  // what tells files apart
};

}  // namespace pleat
