#include "tests/fuzz/fuzz.h"

#include <cstdio>
#include <cstdlib>

#include <sys/mman.h>
#include <unistd.h>

namespace pleat::fuzz {
namespace {
int refused = 0;
}

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

int refusals() { return refused; }

void check_refusal(const Error& error) {
  ++refused;
  const bool callers_fault = error.kind() == ErrorKind::invalid || error.kind() == ErrorKind::unimplemented;
  if (!callers_fault) std::fprintf(stderr, "refused as our own fault: %s\n", error.what());
  expect(callers_fault && *error.what() != '\0', "a refusal names the caller's fault");
}

MemoryFile::MemoryFile(std::string_view bytes) : descriptor_(::memfd_create("input", MFD_CLOEXEC)) {
  expect(descriptor_ >= 0 && ::write(descriptor_, bytes.data(), bytes.size()) == ssize_t(bytes.size()),
         "a file in memory can be written");
}

MemoryFile::~MemoryFile() { ::close(descriptor_); }

std::string MemoryFile::path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

}  // namespace pleat::fuzz
