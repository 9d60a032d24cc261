#include "kernels/context.h"

namespace pleat {

Isa detect_isa() {
#if defined(__x86_64__)
  // F16C, which clang 14 does not know by name, is older than AVX2 and in every processor that has it.
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return Isa::portable;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vnni");
  if (!avx512) return Isa::avx2;
  return __builtin_cpu_supports("avx512bf16") && !__builtin_cpu_is("intel") ? Isa::avx512_bf16 : Isa::avx512;
#else
  return Isa::portable;
#endif
}

const char* name_of(Isa isa) {
  switch (isa) {
    case Isa::portable:
      return "portable";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::avx512_bf16:
      return "avx512_bf16";
  }
  return "unknown";
}

void* Context::scratch(Slot slot, size_t bytes) {
  Buffer& buffer = scratch_[slot];
  if (buffer.bytes() < bytes) {
    buffer = Buffer();  // the old memory goes before the new is asked for
    buffer = Buffer(bytes);
  }
  return buffer.as<void>();
}

}  // namespace pleat
