#include "kernels/low_bit_row.h"

namespace pleat {
namespace {

// A plane of `bits` bits of the codes, from bit `first` of each on.
void write_plane(const unsigned* codes, int bits, int first, uint8_t* plane) {
  const int words = 2 * bits;
  for (int word = 0; word < words; ++word)
    for (int i = 0; i < 4; ++i) {
      unsigned byte = 0;
      for (int part = 0; part < 8 / bits; ++part)
        byte |= (codes[16 * i + word + words * part] >> first & ((1u << bits) - 1)) << bits * part;
      plane[4 * word + i] = uint8_t(byte);
    }
}

}  // namespace

void write_group(const unsigned* codes, int bits, uint8_t* group) {
  for (int plane = 8, first = 0; plane > 0; plane /= 2) {
    if ((bits & plane) == 0) continue;
    write_plane(codes, plane, first, group + 8 * first);
    first += plane;
  }
}

}  // namespace pleat
