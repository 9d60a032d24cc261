#pragma once
// The blocks of 16 outputs that products with low-bit matrices are made of.
#include <algorithm>

#include "kernels/check.h"
#include "kernels/context.h"
#include "kernels/low_bit.h"
#include "kernels/vector_ops.h"

namespace pleat {

// Storage, [blocks of 16 outputs][groups of 64 inputs], a group's codes cut into planes of 4, 2 and 1 bits (the binary
// digits of `bits`, the lowest bits of a code in the widest plane), or one of 8:
//   a plane of b bits: 8 b lines of 64 bytes, byte 4n + i of a line holding the codes of output n for 8 / b inputs,
//   that of part p at bits b p, so that a shift and a mask give an operand of the dot product of 4 bytes: 16 outputs by
//   the inputs 4 (8 / b line + p) + i.
//   scales_: 16 scales and, below 8 bits, 16 minimums, bf16
struct LowBitAccess {
  static int64_t groups(const LowBitMatrix& w) { return (w.inputs() + kGroup - 1) / kGroup; }
  static int64_t blocks(const LowBitMatrix& w) { return (w.outputs() + kOutputBlock - 1) / kOutputBlock; }
  static int64_t group_bytes(const LowBitMatrix& w) { return kOutputBlock * kGroup / 8 * w.bits_; }
  static int64_t group_scales(const LowBitMatrix& w) { return (w.bits_ == 8 ? 1 : 2) * kOutputBlock; }
  static uint8_t* codes(const LowBitMatrix& w, int64_t block) {
    return w.codes_.as<uint8_t>() + block * groups(w) * group_bytes(w);
  }
  static bf16* scales(const LowBitMatrix& w, int64_t block) {
    return w.scales_.as<bf16>() + block * groups(w) * group_scales(w);
  }
};

// One group of a row of x as int8 q [64], zeros after the last input and for the inputs in the group's mask (see
// LowBitMatrix; none where protected_masks is empty), with the sum of q and the scale.
void quantise_group(Isa isa, MatrixView<const float> x, const std::vector<uint64_t>& protected_masks, int64_t row,
                    int64_t group, int8_t* q, int32_t& sum, float& scale);

// Calls work(member, begin, end) over `count` groups to quantise.
template <class Work>
void split_groups(Context& ctx, int64_t count, Work work) {
  constexpr int64_t kGroupsPerThread = 256;  // fewer are done sooner by one thread than by waking the team
  if (count < 2 * kGroupsPerThread)
    work(0, 0, count);
  else
    ctx.team().split(count, work);
}

// Groups that inputs [0, input) fill or begin.
inline int64_t groups_to(int64_t input) { return (input + kGroup - 1) / kGroup; }

// x as int8.
struct QuantisedRows {
  int64_t groups = 0;
  int8_t* q = nullptr;      // [rows, groups * 64], zeros after the last input
  int32_t* sums = nullptr;  // [rows, groups]
  float* scales = nullptr;  // [rows, groups]
};
// In ctx.scratch(op_slot). protected_masks: see ProtectedInputs; those inputs are 0.
QuantisedRows quantise_rows(Context& ctx, MatrixView<const float> x, const std::vector<uint64_t>& protected_masks);

// The sums of groups [begin, end) for 16 outputs and up to kMaxSharedRows rows from `row` on.
inline LowBitBlock low_bit_block(const LowBitMatrix& w, const QuantisedRows& x, int64_t block, int64_t begin,
                                 int64_t end, int64_t row, int rows, float* y) {
  return {.codes = LowBitAccess::codes(w, block) + begin * LowBitAccess::group_bytes(w),
          .scales = LowBitAccess::scales(w, block) + begin * LowBitAccess::group_scales(w),
          .bits = w.bits(),
          .groups = end - begin,
          .stride = x.groups,
          .rows = rows,
          .q = x.q + (row * x.groups + begin) * kGroup,
          .q_sums = x.sums + row * x.groups + begin,
          .q_scales = x.scales + row * x.groups + begin,
          .y = y};
}

// Calls use(first output, outputs, first row, rows, y [rows, 16]) for every block of 16 outputs and kMaxSharedRows
// rows, all inputs summed, with the bias. No input is protected.
template <class Use>
void for_low_bit_blocks(Context& ctx, MatrixView<const float> x, const LowBitMatrix& w, const float* bias, Use use) {
  PLEAT_ASSERT(x.cols == w.inputs(), x.cols, " columns for ", w.inputs(), " inputs");
  PLEAT_ASSERT(w.protected_inputs().empty());
  const QuantisedRows quantised = quantise_rows(ctx, x, {});
  const auto multiply = vector_ops(ctx.isa()).low_bit_block;
  ctx.team().split(LowBitAccess::blocks(w), [&](int, int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block)
      for (int64_t row = 0; row < x.rows; row += kMaxSharedRows) {
        alignas(64) float y[kMaxSharedRows * kOutputBlock];
        const int rows = int(std::min<int64_t>(kMaxSharedRows, x.rows - row));
        const int64_t output = block * kOutputBlock;
        const int outputs = int(std::min<int64_t>(kOutputBlock, w.outputs() - output));
        multiply(low_bit_block(w, quantised, block, 0, quantised.groups, row, rows, y));
        if (bias)
          for (int r = 0; r < rows; ++r)
            for (int n = 0; n < outputs; ++n) y[r * kOutputBlock + n] += bias[output + n];
        use(output, outputs, row, rows, y);
      }
  });
}

}  // namespace pleat
