#include "cluster/http/api_keys.h"

#include <openssl/sha.h>

#include "cluster/line_file.h"
#include "kernels/check.h"

namespace pleat {
namespace {

constexpr size_t kShortest = 8;

// Of the same length: looks at every byte, whatever it finds.
bool equal(std::string_view a, std::string_view b) {
  unsigned char difference = 0;
  for (size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned char>(a[i] ^ b[i]);
  const volatile unsigned char looked_at = difference;
  return looked_at == 0;
}

}  // namespace

ApiKeys ApiKeys::read(const std::string& file) {
  ApiKeys keys;
  for (std::string& line : lines_of(file, "keys")) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    if (line.empty() || line[0] == '#') continue;
    PLEAT_REQUIRE(line.size() >= kShortest, "a key in '", file, "' is shorter than ", kShortest, " characters");
    keys.keys_.push_back(line);
  }
  PLEAT_REQUIRE(keys.required(), "there is no key in '", file, "'");
  return keys;
}

std::optional<size_t> ApiKeys::find(std::string_view key) const {
  std::optional<size_t> found;
  for (size_t i = 0; i < keys_.size(); ++i)
    if (keys_[i].size() == key.size() && equal(keys_[i], key)) found = i;
  return found;
}

std::string ApiKeys::digest(std::string_view key) {
  unsigned char bytes[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), bytes);
  std::string text;
  for (const unsigned char byte : bytes)
    for (const int digit : {byte >> 4, byte & 15}) text += "0123456789abcdef"[digit];
  return text;
}

}  // namespace pleat
