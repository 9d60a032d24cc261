#pragma once
// Who may ask: the keys of a file, one a line.
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pleat {

class ApiKeys {
 public:
  ApiKeys() = default;  // none is asked for
  // Empty lines and lines that begin with # do not count. Error(invalid) where there is no key or one is shorter than 8
  // characters.
  static ApiKeys read(const std::string& file);

  bool required() const { return !keys_.empty(); }
  // The key's place in the file; nullopt where it is not there. Takes as long for a wrong key as for a right one.
  std::optional<size_t> find(std::string_view key) const;

  // What stands for a key where it must not be read: its SHA-256 in hexadecimal digits.
  static std::string digest(std::string_view key);

 private:
  std::vector<std::string> keys_;
};

}  // namespace pleat
