// Runs a target on files, without libFuzzer: each past finding stays mended with any compiler. Files named seed-ok-*
// are seeds that must be accepted, or what lies behind a refusal would never be reached.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

int main(int argc, char** argv) {
  int files = 0;
  for (int i = 1; i < argc; ++i) {
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
      std::ifstream in(entry.path(), std::ios::binary);
      const std::vector<char> text{std::istreambuf_iterator<char>(in), {}};
      const std::vector<uint8_t> bytes(text.begin(), text.end());  // of exactly this size: reading beyond it shows
      std::printf("%s\n", entry.path().c_str());
      std::fflush(stdout);
      const int before = pleat::fuzz::refusals();
      LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
      if (entry.path().filename().string().starts_with("seed-ok-"))
        pleat::fuzz::expect(pleat::fuzz::refusals() == before, "a seed that must be accepted is");
      ++files;
    }
  }
  std::printf("%d files\n", files);
  return files > 0 ? 0 : 1;
}
