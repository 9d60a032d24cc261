#pragma once
// What the fuzz targets share. A target is one file with libFuzzer's entry, LLVMFuzzerTestOneInput: it reads bytes as
// the program reads what strangers send, which may be refused, and nothing else may happen.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "kernels/check.h"

namespace pleat::fuzz {

inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Ends the process, as a finding, unless the error is one that tells whoever made the input what is wrong with it.
void check_refusal(const Error& error);
// So far.
int refusals();

// Runs f, which accepts its input or throws an Error. Whatever else it throws ends the process. True: accepted.
template <class F>
bool accepts(F&& f) {
  try {
    f();
    return true;
  } catch (const Error& error) {
    check_refusal(error);
    return false;
  }
}

// Ends the process, as a finding, where what must hold does not.
void expect(bool holds, const char* what);

// The bytes as a file of their own, in memory.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;

  std::string path() const;

 private:
  int descriptor_ = -1;
};

}  // namespace pleat::fuzz
