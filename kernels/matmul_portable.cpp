#include <cstring>

#include "kernels/matmul_tile_impl.h"

namespace pleat {
namespace {

// Four floats: what every 64-bit processor has.
struct Portable {
  typedef float Reg __attribute__((vector_size(16)));
  typedef uint32_t Words __attribute__((vector_size(16)));
  typedef int8_t Codes __attribute__((vector_size(4)));
  static constexpr int kWidth = 4;
  static constexpr int kAccumulators = 12;

  template <class T>
  static T load_as(const void* from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  static Reg zero() { return Reg{}; }
  static Reg load(const float* from) { return load_as<Reg>(from); }
  static void store(float* to, Reg value) { std::memcpy(to, &value, sizeof value); }
  static Reg broadcast(float value) { return Reg{value, value, value, value}; }
  static Reg multiply_add(Reg a, Reg b, Reg sum) { return a * b + sum; }
  static Reg add(Reg a, Reg b) { return a + b; }

  static constexpr bool kBf16Pairs = false;
  static Reg even_bf16(const std::byte* pairs) { return reinterpret_cast<Reg>(load_as<Words>(pairs) << 16); }
  static Reg odd_bf16(const std::byte* pairs) { return reinterpret_cast<Reg>(load_as<Words>(pairs) & 0xffff0000u); }

  static void transpose(const std::byte* from, int64_t stride, int rows, int64_t words, uint32_t* out) {
    for (int64_t word = 0; word < words; ++word) {
      for (int row = 0; row < kPanelOutputs; ++row) {
        const std::byte* at = from + row * stride + word * 4;
        out[word * kPanelOutputs + row] = row < rows ? load_as<uint32_t>(at) : 0;
      }
    }
  }

  static void weave(const std::byte* from, int64_t stride, int64_t pairs, uint32_t* out) {
    for (int64_t pair = 0; pair < pairs; ++pair, from += 2 * stride, out += kPanelOutputs)
      for (int i = 0; i < kPanelOutputs; ++i) {
        const uint32_t even = load_as<uint16_t>(from + 2 * i), odd = load_as<uint16_t>(from + stride + 2 * i);
        out[i] = even | odd << 16;
      }
  }
};

}  // namespace

const TileKernels& tile_kernels_portable() {
  static constexpr TileKernels table = make_tile_kernels<Portable, 6, 1>();
  return table;
}

}  // namespace pleat
