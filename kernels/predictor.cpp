#include "kernels/predictor.h"

#include <algorithm>
#include <cmath>

#include "kernels/check.h"
#include "kernels/vector_ops.h"

namespace pleat {

// Storage, [blocks of 16 neurons][groups of 64 inputs]:
//   codes_   a group's low two bits (2 and 3-bit codes): 4 x 64 bytes, byte 4n + b of the i-th holding the codes of
//   neuron n for the
//            inputs 16 i + 4 part + b at bits 2 part; then its highest bit (1 and 3-bit codes): 2 x 64 bytes, byte 4n +
//            b of the i-th holding those for the inputs 32 i + 4 part + b at bit `part`. A shift and a mask give an
//            operand of the processor's dot product of 4 bytes: 16 neurons by 4 inputs.
//   scales_  16 scales, 16 minimums, bf16
struct LowBitAccess {
  static int64_t groups(const LowBitMatrix& p) { return (p.inputs_ + kGroup - 1) / kGroup; }
  static int64_t blocks(const LowBitMatrix& p) { return (p.neurons_ + 15) / 16; }
  static int64_t group_bytes(const LowBitMatrix& p) { return 16 * kGroup / 8 * p.bits_; }
  static uint8_t* codes(const LowBitMatrix& p, int64_t block) {
    return p.codes_.as<uint8_t>() + block * groups(p) * group_bytes(p);
  }
  static bf16* scales(const LowBitMatrix& p, int64_t block) { return p.scales_.as<bf16>() + block * groups(p) * 32; }

  // Code of `neuron` of the block for `input` of the group.
  static void store(uint8_t* group, int bits, int neuron, int input, unsigned code) {
    if (bits >= 2) {
      const int shift = 2 * (input % 16 / 4);
      uint8_t& byte = group[input / 16 * 64 + neuron * 4 + input % 4];
      byte = uint8_t((byte & ~(3u << shift)) | (code & 3u) << shift);
      group += 256;
    }
    if (bits != 2) {
      const int shift = input % 32 / 4;
      uint8_t& byte = group[input / 32 * 64 + neuron * 4 + input % 4];
      byte = uint8_t((byte & ~(1u << shift)) | (code >> (bits - 1)) << shift);
    }
  }
};

LowBitMatrix::LowBitMatrix(int bits, int64_t neurons, int64_t inputs)
    : bits_(bits), neurons_(neurons), inputs_(inputs) {
  PLEAT_REQUIRE(bits >= 1 && bits <= 3, "a predictor has 1, 2 or 3 bits, not ", bits);
  const int64_t groups = LowBitAccess::blocks(*this) * LowBitAccess::groups(*this);
  codes_ = Buffer(size_t(groups * LowBitAccess::group_bytes(*this)));
  scales_ = Buffer(size_t(groups * 32) * sizeof(bf16));
}

void LowBitMatrix::pack(int64_t neuron, int64_t rows, const uint8_t* codes, const bf16* scale, const bf16* minimum) {
  PLEAT_ASSERT(neuron >= 0 && neuron + rows <= neurons_, neuron, " + ", rows, " of ", neurons_);
  const int64_t row_bytes = (inputs_ * bits_ + 7) / 8, groups = LowBitAccess::groups(*this);
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t block = (neuron + row) / 16;
    const int lane = int((neuron + row) % 16);
    const uint8_t* from = codes + row * row_bytes;
    uint8_t* to = LowBitAccess::codes(*this, block);
    for (int64_t input = 0; input < inputs_; ++input) {
      const int64_t bit = input * bits_, byte = bit / 8;
      const unsigned window = from[byte] | (byte + 1 < row_bytes ? from[byte + 1] << 8 : 0);
      const unsigned code = window >> bit % 8 & ((1u << bits_) - 1);
      LowBitAccess::store(to + input / kGroup * LowBitAccess::group_bytes(*this), bits_, lane, int(input % kGroup),
                          code);
    }
    for (int64_t group = 0; group < groups; ++group) {
      bf16* group_scales = LowBitAccess::scales(*this, block) + group * 32;
      group_scales[lane] = scale[row * groups + group];
      group_scales[16 + lane] = minimum[row * groups + group];
    }
  }
}

namespace {

struct Quantised {
  int64_t groups = 0;
  int8_t* q = nullptr;      // [rows, groups * 64], zeros after the last input
  int32_t* sums = nullptr;  // [rows, groups]
  float* scales = nullptr;  // [rows]
};

void quantise_row(const float* x, int64_t n, int64_t groups, int8_t* q, int32_t* sums, float& scale) {
  float highest = 0;
  for (int64_t i = 0; i < n; ++i) highest = std::max(highest, std::fabs(x[i]));
  scale = highest / 127.0f;
  const float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to the nearest integer, ties to even
  for (int64_t i = 0; i < n; ++i) {
    // Where scale is 0, subnormal or infinite the quotient may be anything; the comparisons bring it, NaN too, into
    // range.
    float value = x[i] / scale;
    value = value > -127.0f ? value : -127.0f;
    value = value < 127.0f ? value : 127.0f;
    q[i] = int8_t((value + shift) - shift);
  }
  std::fill(q + (scale == 0 ? 0 : n), q + groups * kGroup, int8_t(0));
  for (int64_t group = 0; group < groups; ++group) {
    int32_t sum = 0;
    for (int64_t i = 0; i < kGroup; ++i) sum += q[group * kGroup + i];
    sums[group] = sum;
  }
}

Quantised quantise(Context& ctx, MatrixView<const float> x) {
  Quantised out;
  out.groups = (x.cols + kGroup - 1) / kGroup;
  const int64_t q_bytes = x.rows * out.groups * kGroup;
  out.q = static_cast<int8_t*>(
      ctx.scratch(Context::op_slot, size_t(q_bytes + x.rows * (out.groups + 1) * int64_t(sizeof(float)))));
  out.sums = reinterpret_cast<int32_t*>(out.q + q_bytes);
  out.scales = reinterpret_cast<float*>(out.sums + x.rows * out.groups);
  const auto work = [&](int, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      quantise_row(x[row], x.cols, out.groups, out.q + row * out.groups * kGroup, out.sums + row * out.groups,
                   out.scales[row]);
  };
  if (x.rows == 1)
    work(0, 0, 1);
  else
    ctx.team().split(x.rows, work);
  return out;
}

// Calls use(first neuron, neurons, first row, rows, z [rows, 16]) for every block of 16 neurons and kMaxSharedRows
// rows.
template <class Use>
void for_blocks(Context& ctx, MatrixView<const float> x, const LowBitMatrix& p, const float* bias, Use use) {
  PLEAT_ASSERT(x.cols == p.inputs(), x.cols, " columns for ", p.inputs(), " inputs");
  const Quantised quantised = quantise(ctx, x);
  const auto predict_block = vector_ops(ctx.isa()).predict_block;
  ctx.team().split(LowBitAccess::blocks(p), [&](int, int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block)
      for (int64_t row = 0; row < x.rows; row += kMaxSharedRows) {
        alignas(64) float z[kMaxSharedRows * 16];
        const int rows = int(std::min<int64_t>(kMaxSharedRows, x.rows - row));
        const int64_t neuron = block * 16;
        const int neurons = int(std::min<int64_t>(16, p.neurons() - neuron));
        predict_block({.codes = LowBitAccess::codes(p, block),
                       .scales = LowBitAccess::scales(p, block),
                       .bits = p.bits(),
                       .groups = quantised.groups,
                       .rows = rows,
                       .q = quantised.q + row * quantised.groups * kGroup,
                       .q_sums = quantised.sums + row * quantised.groups,
                       .q_scales = quantised.scales + row,
                       .z = z});
        if (bias)
          for (int r = 0; r < rows; ++r)
            for (int n = 0; n < neurons; ++n) z[r * 16 + n] += bias[neuron + n];
        use(neuron, neurons, row, rows, z);
      }
  });
}

}  // namespace

void predict(Context& ctx, MatrixView<const float> x, const LowBitMatrix& p, const float* bias, MatrixView<float> z) {
  PLEAT_ASSERT(z.rows == x.rows && z.cols == p.neurons(), z.rows, " x ", z.cols, " for ", p.neurons(), " neurons");
  for_blocks(ctx, x, p, bias, [&](int64_t neuron, int neurons, int64_t row, int rows, const float* block) {
    for (int r = 0; r < rows; ++r) std::copy_n(block + r * 16, neurons, z[row + r] + neuron);
  });
}

void predict_selection(Context& ctx, MatrixView<const float> x, const LowBitMatrix& p, const float* bias,
                       const float* low, const float* high, Selection& selection) {
  PLEAT_ASSERT(x.rows <= kMaxSharedRows, x.rows, " rows share a selection");
  PLEAT_ASSERT(selection.leaf_offsets.back() == p.neurons(), selection.leaf_offsets.back(), " and ", p.neurons(),
               " neurons");
  uint32_t* const mask = selection.rows.data();
  for_blocks(ctx, x, p, bias, [&](int64_t neuron, int neurons, int64_t, int rows, const float* z) {
    for (int n = 0; n < neurons; ++n) mask[neuron + n] = 0;
    for (int r = 0; r < rows; ++r)
      for (int n = 0; n < neurons; ++n) {
        const bool inside = z[r * 16 + n] >= low[neuron + n] && z[r * 16 + n] <= high[neuron + n];
        mask[neuron + n] |= uint32_t(!inside) << r;  // NaN is outside
      }
  });
  selection.gather(ctx);
}

}  // namespace pleat
