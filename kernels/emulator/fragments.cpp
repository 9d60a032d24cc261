// Compiled without the sanitizers' instrumentation (CMakeLists.txt): a lane reads and writes what others keep on their
// stacks, as registers of one warp.
#include "kernels/emulator/fragments.h"

#include <bit>

namespace pleat::emulator {
namespace {

constexpr int kRows = 16, kColumns = 8, kWords = 8;  // of a, of b, of a row of either

template <class T>
const T& of(uint64_t offered) {
  return *reinterpret_cast<const T*>(offered);
}

// The operands, put together from the fragments: sums(a [16][8], b [8][8], c [16][8]) adds to c.
template <class Sum, class Use>
void multiply(const WarpOffers& lanes, Use sums) {
  unsigned a[kRows][kWords], b[kColumns][kWords];
  Sum c[kRows][kColumns];
  const auto for_fragments = [&](auto use) {
    for (int lane = 0; lane < 32; ++lane) use(of<LaneOperands>(lanes[unsigned(lane)]), lane / 4, lane % 4);
  };
  for_fragments([&](const LaneOperands& mine, int row, int word) {
    const Sum* const mine_c = static_cast<const Sum*>(mine.c);
    for (int i = 0; i < 4; ++i) {
      a[row + 8 * (i % 2)][word + 4 * (i / 2)] = mine.a[i];
      c[row + 8 * (i / 2)][2 * word + i % 2] = mine_c[i];
    }
    for (int i = 0; i < 2; ++i) b[row][word + 4 * i] = mine.b[i];
  });
  sums(a, b, c);
  for_fragments([&](const LaneOperands& mine, int row, int word) {
    for (int i = 0; i < 4; ++i) static_cast<Sum*>(mine.c)[i] = c[row + 8 * (i / 2)][2 * word + i % 2];
  });
}

// Input k of a row as a number.
float bf16_of(const unsigned* row, int k) { return std::bit_cast<float>(row[k / 2] >> 16 * (k % 2) << 16); }
int int8_of(const unsigned* row, int k) { return int8_t(row[k / 4] >> 8 * (k % 4)); }

// c += a b^T over kInputs of them, ascending.
template <int kInputs, class Sum, class Number>
void add_products(Number number, const unsigned (&a)[kRows][kWords], const unsigned (&b)[kColumns][kWords],
                  Sum (&c)[kRows][kColumns]) {
  for (int k = 0; k < kInputs; ++k) {
    Sum column[kColumns];
    for (int n = 0; n < kColumns; ++n) column[n] = number(b[n], k);
    for (int row = 0; row < kRows; ++row) {
      const Sum x = number(a[row], k);
      for (int n = 0; n < kColumns; ++n) c[row][n] += x * column[n];
    }
  }
}

}  // namespace

void multiply_bf16(const WarpOffers& lanes) {
  multiply<float>(lanes, [](auto& a, auto& b, auto& c) { add_products<16>(bf16_of, a, b, c); });
}

void multiply_int8(const WarpOffers& lanes) {
  multiply<int>(lanes, [](auto& a, auto& b, auto& c) { add_products<32>(int8_of, a, b, c); });
}

void exchange_rows(const WarpOffers& lanes) {
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) {
      const void* const row = of<LaneRows>(lanes[unsigned(8 * i + lane / 4)]).row;
      reinterpret_cast<LaneRows*>(lanes[unsigned(lane)])->rows[i] = static_cast<const unsigned*>(row);
    }
}

void exchange_columns(const WarpOffers& lanes) {
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 8; ++i) {
      const void* const row = of<LaneColumns>(lanes[unsigned(i / 2 * 8 + lane % 4 * 2 + i % 2)]).row;
      reinterpret_cast<LaneColumns*>(lanes[unsigned(lane)])->rows[i / 2][i % 2] = static_cast<const uint16_t*>(row);
    }
}

}  // namespace pleat::emulator
