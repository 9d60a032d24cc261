#include "launcher/identity.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <vector>

#include "kernels/check.h"

namespace pleat {
namespace {

constexpr uint64_t kWhole = uint64_t(4) << 20;  // bytes of a file that counts whole
constexpr uint64_t kSamples = 512, kSampleBytes = 4096;

class Fnv1a {
 public:
  void add(const char* data, size_t size) {
    for (size_t i = 0; i < size; ++i) hash_ = (hash_ ^ static_cast<unsigned char>(data[i])) * 0x100000001b3;
  }
  void add(const std::string& text) { add(text.c_str(), text.size() + 1); }
  uint64_t value() const { return hash_; }

 private:
  uint64_t hash_ = 0xcbf29ce484222325;
};

void add_range(std::ifstream& file, uint64_t begin, uint64_t size, Fnv1a& hash) {
  std::vector<char> bytes(size);
  file.seekg(std::streamoff(begin));
  file.read(bytes.data(), std::streamsize(size));
  hash.add(bytes.data(), size);
}

void add_file(const std::filesystem::path& path, Fnv1a& hash) {
  const uint64_t size = std::filesystem::file_size(path);
  std::ifstream file(path, std::ios::binary);
  hash.add(concat(path.filename().string(), ' ', size));
  if (size <= kWhole) {
    add_range(file, 0, size, hash);
  } else {
    add_range(file, 0, kWhole / 4, hash);
    for (uint64_t i = 1; i <= kSamples; ++i) add_range(file, (size - kSampleBytes) / kSamples * i, kSampleBytes, hash);
  }
  PLEAT_REQUIRE(file.good(), "cannot read '", path.string(), "'");
}

// What of a folder a text depends on.
bool counts(const std::filesystem::path& path) {
  return path.extension() == ".json" || path.extension() == ".safetensors" || path.extension() == ".jinja";
}

}  // namespace

std::string identity_of(const std::string& model, const std::string& ways) {
  Fnv1a hash;
  hash.add(ways);
  std::vector<std::filesystem::path> files;
  if (std::filesystem::is_directory(model)) {
    for (const auto& entry : std::filesystem::directory_iterator(model))
      if (entry.is_regular_file() && counts(entry.path())) files.push_back(entry.path());
  } else {
    files.push_back(model);
  }
  std::sort(files.begin(), files.end());
  for (const auto& file : files) add_file(file, hash);
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(hash.value()));
  return digits;
}

}  // namespace pleat
