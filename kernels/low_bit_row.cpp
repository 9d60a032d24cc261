#include "kernels/low_bit_row.h"

#include <cstring>

namespace pleat {
namespace {

constexpr int kCodes = 64;

// Four codes at a time, which become the bytes of a word.
template <int bits>
void spread(const uint8_t* row, uint8_t (&codes)[kCodes]) {
  constexpr uint64_t kFour = (uint64_t(1) << 4 * bits) - 1, kTwo = (uint64_t(1) << 2 * bits) - 1;
  constexpr uint32_t kOne = ((1u << bits) - 1) * 0x10001u;
  for (int k = 0; k < kCodes; k += 4) {
    uint64_t window;
    std::memcpy(&window, row + k * bits / 8, sizeof window);
    window = window >> k * bits % 8 & kFour;
    const uint32_t twos = uint32_t(window & kTwo) | uint32_t(window >> 2 * bits) << 16;
    const uint32_t four = (twos & kOne) | (twos >> bits & kOne) << 8;
    std::memcpy(codes + k, &four, sizeof four);
  }
}

// A plane of `bits` bits of the codes, from bit `first` of each on.
template <int bits>
void write_plane(const uint8_t (&codes)[kCodes], int first, uint8_t* plane) {
  constexpr int kWords = 2 * bits, kParts = 8 / bits;
  for (int i = 0; i < 4; ++i)
    for (int word = 0; word < kWords; ++word) {
      unsigned byte = 0;
      for (int part = 0; part < kParts; ++part)
        byte |= (unsigned(codes[16 * i + word + kWords * part]) >> first & ((1u << bits) - 1)) << bits * part;
      plane[4 * word + i] = uint8_t(byte);
    }
}

}  // namespace

void read_group(const uint8_t* row, int64_t count, int bits, uint8_t (&codes)[kCodes]) {
  uint8_t group[kCodes + sizeof(uint64_t)] = {};  // windows reach past the end
  const int64_t whole = count * bits / 8, more = count * bits % 8;
  std::memcpy(group, row, size_t(whole));
  if (more > 0) group[whole] = uint8_t(row[whole] & ((1u << more) - 1));
  static constexpr decltype(&spread<1>) kSpread[] = {spread<1>, spread<2>, spread<3>, spread<4>,
                                                     spread<5>, spread<6>, nullptr,   spread<8>};
  kSpread[bits - 1](group, codes);
}

void write_group(const uint8_t (&codes)[kCodes], int bits, uint8_t* group) {
  if (bits == 8) return write_plane<8>(codes, 0, group);
  int first = 0;
  const auto plane = [&](int width, auto write) {
    if ((bits & width) == 0) return;
    write(codes, first, group + 8 * first);
    first += width;
  };
  plane(4, write_plane<4>);
  plane(2, write_plane<2>);
  plane(1, write_plane<1>);
}

}  // namespace pleat
