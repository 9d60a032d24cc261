#include "kernels/cuda/transposed_rows.h"

#include <gtest/gtest.h>

#include "../low_bit_rows_fixture.h"

namespace pleat::cuda {
namespace {

TEST(TransposedRows, HasEveryWeightWhereItBelongs) {
  const Stream stream;
  constexpr int kRows = 70, kWidth = 150;
  for (const WeightFormat format : {WeightFormat::f32, WeightFormat::bf16, WeightFormat::int8, WeightFormat::int6,
                                    WeightFormat::int5, WeightFormat::int4, WeightFormat::int3, WeightFormat::int2,
                                    WeightFormat::planes4, WeightFormat::planes3, WeightFormat::planes2}) {
    const bool low = is_low_bit(format);
    const RandomRows w(format, kRows, kWidth, 3, {}, low ? std::vector<int32_t>{3, 69} : std::vector<int32_t>());
    const DeviceRows device(w.rows, stream);
    const TransposedRows room(TransposedRows::bytes_of(device.view()));
    const Rows out = room.transpose(stream.get(), device.view());
    ASSERT_EQ(out.rows, kWidth);
    ASSERT_EQ(out.width, kRows);
    ASSERT_EQ(out.bits, format == WeightFormat::f32 ? 32 : 16);
    std::vector<std::byte> bytes(size_t(out.rows * out.stride));
    copy_to_host(bytes.data(), out.data, bytes.size(), stream.get());
    stream.wait();
    for (int k = 0; k < kWidth; ++k)
      for (int n = 0; n < kRows; ++n) {
        const std::byte* const row = bytes.data() + k * out.stride;
        const double got = out.bits == 32 ? double(reinterpret_cast<const float*>(row)[n])
                                          : double(to_f32(reinterpret_cast<const bf16*>(row)[n]));
        // Rounded to bf16, after a fused multiply-add whose terms may be larger than the sum.
        const size_t group = size_t(n * w.groups() + k / 64);
        const double tolerance =
            low ? std::fabs(w.weight(n, k)) * 0x1p-8 + std::fabs(double(w.minimum[group])) * 0x1p-22 : 0;
        ASSERT_NEAR(got, w.weight(n, k), tolerance) << name_of(format) << ", row " << n << ", column " << k;
      }
  }
}

}  // namespace
}  // namespace pleat::cuda
