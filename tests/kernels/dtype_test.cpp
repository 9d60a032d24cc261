#include "kernels/dtype.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/buffer.h"
#include "kernels/context.h"

namespace pleat {
namespace {

TEST(DType, BFloat16RoundsToNearestEvenAndKeepsSpecials) {
  EXPECT_EQ(to_bf16(1.0f).bits, 0x3f80);
  EXPECT_EQ(to_bf16(1.0f + 0x1p-8f).bits, 0x3f80);  // a tie, to even
  EXPECT_EQ(to_bf16(1.0f + 3 * 0x1p-8f).bits, 0x3f82);
  EXPECT_EQ(to_bf16(1.0f + 0x1p-8f + 0x1p-20f).bits, 0x3f81);
  EXPECT_EQ(to_bf16(INFINITY).bits, 0x7f80);
  EXPECT_TRUE(std::isnan(to_f32(to_bf16(NAN))));
  EXPECT_TRUE(std::isinf(to_f32(to_bf16(std::numeric_limits<float>::max()))));
}

TEST(DType, EveryFloat16HasItsValue) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const int exponent = int(bits >> 10 & 31), fraction = int(bits & 1023);
    const double sign = bits & 0x8000 ? -1 : 1;
    const float value = to_f32(f16{uint16_t(bits)});
    if (exponent == 31 && fraction != 0) {
      EXPECT_TRUE(std::isnan(value));
    } else if (exponent == 31) {
      EXPECT_EQ(value, float(sign * INFINITY));
    } else {
      EXPECT_EQ(value, sign * (exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25)));
      EXPECT_EQ(std::signbit(value), sign < 0);
    }
  }
}

TEST(Buffer, IsZeroedAlignedAndMovable) {
  for (size_t bytes : {size_t(1), size_t(5000), size_t(300000), (size_t(5) << 20) + 3}) {
    Buffer buffer(bytes);
    EXPECT_EQ(buffer.bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.as<void>()) % (bytes < (2u << 20) ? 4096 : 2 << 20), 0u);
    for (size_t i = 0; i < bytes; i += 997) ASSERT_EQ(buffer.as<char>()[i], 0);
    buffer.as<char>()[bytes - 1] = 7;
    const Buffer moved = std::move(buffer);
    EXPECT_EQ(moved.as<char>()[bytes - 1], 7);
  }
  EXPECT_EQ(Buffer(0).as<void>(), nullptr);
}

// Of sizes that share huge pages, for longer than one set of those.
TEST(Buffer, SharesNoByteWithAnother) {
  constexpr size_t kBytes = size_t(1) << 20;
  for (int time = 0; time < 2; ++time) {
    std::vector<Buffer> buffers;
    for (int i = 0; i < 40; ++i) {
      buffers.emplace_back(kBytes);
      for (size_t at = 0; at < kBytes; at += 997) ASSERT_EQ(buffers.back().as<char>()[at], 0);
      std::fill_n(buffers.back().as<char>(), kBytes, char(i + 1));
      if (i % 3 == 2) buffers.erase(buffers.end() - 2);
    }
    for (const Buffer& buffer : buffers) {
      const char* const values = buffer.as<char>();
      EXPECT_EQ(std::count(values, values + kBytes, values[0]), int64_t(kBytes));
    }
  }
}

TEST(Context, ScratchStaysWhereItIsUntilItHasToGrow) {
  Context ctx(1, false);
  void* first = ctx.scratch(Context::op_slot, 10000);
  EXPECT_EQ(ctx.scratch(Context::op_slot, 100), first);
  EXPECT_NE(ctx.scratch(Context::caller_slot, 100), first);
  static_cast<char*>(ctx.scratch(Context::op_slot, 1 << 20))[(1 << 20) - 1] = 1;
}

}  // namespace
}  // namespace pleat
