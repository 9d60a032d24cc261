#include "kernels/low_bit_row.h"

#include <cstring>

namespace pleat {
namespace {

constexpr int kCodes = 64;

// Four codes at a time, which become the bytes of a word. Windows reach past the end.
template <int bits>
void spread(const uint8_t* group, uint8_t (&codes)[kCodes]) {
  constexpr uint64_t kFour = (uint64_t(1) << 4 * bits) - 1, kTwo = (uint64_t(1) << 2 * bits) - 1;
  constexpr uint32_t kOne = ((1u << bits) - 1) * 0x10001u;
  for (int k = 0; k < kCodes; k += 4) {
    uint64_t window;
    std::memcpy(&window, group + k * bits / 8, sizeof window);
    window = window >> k * bits % 8 & kFour;
    const uint32_t twos = uint32_t(window & kTwo) | uint32_t(window >> 2 * bits) << 16;
    const uint32_t four = (twos & kOne) | (twos >> bits & kOne) << 8;
    std::memcpy(codes + k, &four, sizeof four);
  }
}

template <>
void spread<4>(const uint8_t* group, uint8_t (&codes)[kCodes]) {
  for (int i = 0; i < kCodes / 2; ++i) codes[2 * i] = group[i] & 15, codes[2 * i + 1] = group[i] >> 4;
}

template <int bits>
void read(const uint8_t* row, int64_t count, uint8_t (&codes)[kCodes]) {
  uint8_t group[8 * bits + sizeof(uint64_t)] = {};
  if (count == kCodes) {
    std::memcpy(group, row, 8 * bits);
  } else {
    const int64_t whole = count * bits / 8, more = count * bits % 8;
    std::memcpy(group, row, size_t(whole));
    if (more > 0) group[whole] = uint8_t(row[whole] & ((1u << more) - 1));
  }
  spread<bits>(group, codes);
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
  static constexpr decltype(&read<1>) kRead[] = {read<1>, read<2>, read<3>, read<4>,
                                                 read<5>, read<6>, nullptr, read<8>};
  kRead[bits - 1](row, count, codes);
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
