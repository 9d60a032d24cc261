#include "kernels/low_bit.h"

#include <cstring>

#include "kernels/context.h"
#include "kernels/leaf_sums.h"
#include "kernels/low_bit_blocks.h"
#include "kernels/low_bit_row.h"

namespace pleat {
namespace {

// Calls visit(bits of the plane, first bit of the code, first byte in the group).
template <class Visit>
[[gnu::always_inline]] inline void for_planes(int bits, Visit visit) {
  if (bits == 8) return visit(8, 0, 0);
  int first = 0;
  for (int width : {4, 2, 1}) {
    if ((bits & width) == 0) continue;
    visit(width, first, int(kOutputBlock * kGroup) / 8 * first);
    first += width;
  }
}

// An output's 64 codes of a group: four inputs are a word of each plane.
template <int bits>
void store(const uint8_t (&codes)[kGroup], int output, uint8_t* group) {
  uint32_t quads[kGroup / 4];
  std::memcpy(quads, codes, sizeof quads);
  for_planes(bits, [&](int width, int first, int offset) {
    const int parts = 8 / width;
    const uint32_t mask = ((1u << width) - 1) * 0x01010101u;
    uint8_t* to = group + offset + output * 4;
    for (const uint32_t* quad = quads; quad < std::end(quads); quad += parts, to += 4 * kOutputBlock) {
      uint32_t word = 0;
      for (int part = 0; part < parts; ++part) word |= (quad[part] >> first & mask) << part * width;
      std::memcpy(to, &word, sizeof word);
    }
  });
}

// The other way.
template <int bits>
void load(const uint8_t* group, int output, uint8_t (&codes)[kGroup]) {
  uint32_t quads[kGroup / 4] = {};
  for_planes(bits, [&](int width, int first, int offset) {
    const int parts = 8 / width;
    const uint32_t mask = ((1u << width) - 1) * 0x01010101u;
    const uint8_t* from = group + offset + output * 4;
    for (uint32_t* quad = quads; quad < std::end(quads); quad += parts, from += 4 * kOutputBlock) {
      uint32_t word;
      std::memcpy(&word, from, sizeof word);
      for (int part = 0; part < parts; ++part) quad[part] |= (word >> part * width & mask) << first;
    }
  });
  std::memcpy(codes, quads, sizeof quads);
}

}  // namespace

LowBitMatrix::LowBitMatrix(int bits, int64_t outputs, int64_t inputs) : ProtectedInputs(outputs, inputs), bits_(bits) {
  PLEAT_REQUIRE((bits >= 1 && bits <= 6) || bits == 8, "a weight has 1 to 6 or 8 bits, not ", bits);
  const int64_t groups = LowBitAccess::blocks(*this) * LowBitAccess::groups(*this);
  codes_ = Buffer(size_t(groups * LowBitAccess::group_bytes(*this)));
  scales_ = Buffer(size_t(groups * LowBitAccess::group_scales(*this)) * sizeof(bf16));
}

void LowBitMatrix::pack(int64_t output, int64_t rows, const uint8_t* codes, const bf16* scale, const bf16* minimum) {
  PLEAT_ASSERT(output >= 0 && output + rows <= outputs(), output, " + ", rows, " of ", outputs());
  PLEAT_ASSERT((minimum == nullptr) == (bits_ == 8), bits_, " bits");
  static constexpr decltype(&store<1>) kStore[] = {store<1>, store<2>, store<3>, store<4>,
                                                   store<5>, store<6>, nullptr,  store<8>};
  const auto store_codes = kStore[bits_ - 1];
  const int64_t row_bytes = (inputs() * bits_ + 7) / 8, groups = LowBitAccess::groups(*this);
  // A group of all outputs of a block before the next: its lines are written while they are near.
  for (int64_t row = 0, count = 0; row < rows; row += count) {
    const int64_t block = (output + row) / kOutputBlock, first = (output + row) % kOutputBlock;
    count = std::min(kOutputBlock - first, rows - row);
    for (int64_t group = 0; group < groups; ++group) {
      uint8_t* const to = LowBitAccess::codes(*this, block) + group * LowBitAccess::group_bytes(*this);
      bf16* const scales = LowBitAccess::scales(*this, block) + group * LowBitAccess::group_scales(*this);
      const int64_t inputs_here = std::min(kGroup, inputs() - group * kGroup);
      for (int64_t i = 0; i < count; ++i) {
        uint8_t group_codes[kGroup];
        read_group(codes + (row + i) * row_bytes + group * 8 * bits_, inputs_here, bits_, group_codes);
        store_codes(group_codes, int(first + i), to);
        scales[first + i] = scale[(row + i) * groups + group];
        if (minimum) scales[kOutputBlock + first + i] = minimum[(row + i) * groups + group];
      }
    }
  }
}

void LowBitMatrix::codes(int64_t output, int64_t group, uint8_t (&codes)[kGroup]) const {
  static constexpr decltype(&load<1>) kLoad[] = {load<1>, load<2>, load<3>, load<4>,
                                                 load<5>, load<6>, nullptr, load<8>};
  kLoad[bits_ - 1](LowBitAccess::codes(*this, output / kOutputBlock) + group * LowBitAccess::group_bytes(*this),
                   int(output % kOutputBlock), codes);
}

bf16 LowBitMatrix::scale(int64_t output, int64_t group) const {
  return LowBitAccess::scales(*this,
                              output / kOutputBlock)[group * LowBitAccess::group_scales(*this) + output % kOutputBlock];
}

bf16 LowBitMatrix::minimum(int64_t output, int64_t group) const {
  if (bits_ == 8) return {0};
  return LowBitAccess::scales(
      *this, output / kOutputBlock)[group * LowBitAccess::group_scales(*this) + kOutputBlock + output % kOutputBlock];
}

void LowBitMatrix::row(int64_t output, float* values) const {
  PLEAT_ASSERT(output >= 0 && output < outputs(), output, " of ", outputs());
  for (int64_t begin = 0; begin < inputs(); begin += kGroup) {
    uint8_t of_group[kGroup];
    codes(output, begin / kGroup, of_group);
    const float scale = to_f32(this->scale(output, begin / kGroup)), least = to_f32(minimum(output, begin / kGroup));
    for (int64_t i = 0; i < std::min(kGroup, inputs() - begin); ++i)
      values[begin + i] = bits_ == 8 ? scale * float(int(of_group[i]) - 128) : least + scale * float(of_group[i]);
  }
  protected_row(output, values);
}

void quantise_group(Isa isa, MatrixView<const float> x, const std::vector<uint64_t>& protected_masks, int64_t row,
                    int64_t group, int8_t* q, int32_t& sum, float& scale) {
  const int64_t count = std::min(kGroup, x.cols - group * kGroup);
  const float* values = x[row] + group * kGroup;
  float ordinary[kGroup];
  if (!protected_masks.empty() && protected_masks[size_t(group)] != 0) {
    for (int64_t k = 0; k < count; ++k) ordinary[k] = protected_masks[size_t(group)] >> k & 1 ? 0 : values[k];
    values = ordinary;
  }
  vector_ops(isa).quantise(values, count, q, sum, scale);
}

QuantisedRows quantise_rows(Context& ctx, MatrixView<const float> x, const std::vector<uint64_t>& protected_masks) {
  QuantisedRows out;
  out.groups = (x.cols + kGroup - 1) / kGroup;
  const int64_t count = x.rows * out.groups;
  out.q = static_cast<int8_t*>(ctx.scratch(Context::op_slot, size_t(count * (kGroup + 2 * int64_t(sizeof(float))))));
  out.sums = reinterpret_cast<int32_t*>(out.q + count * kGroup);
  out.scales = reinterpret_cast<float*>(out.sums + count);
  split_groups(ctx, count, [&](int, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      quantise_group(ctx.isa(), x, protected_masks, i / out.groups, i % out.groups, out.q + i * kGroup, out.sums[i],
                     out.scales[i]);
  });
  return out;
}

namespace {

constexpr int64_t kTogetherBytes = 256 << 10;  // of codes: half of a second-level cache

// One block of outputs times up to kMaxSharedRows rows.
struct BlockSums {
  const LowBitMatrix& w;
  MatrixView<const float> floats;
  const QuantisedRows& x;
  const LowBitLeaves& leaves;
  void (*multiply)(const LowBitBlock&);
  int64_t block, row;
  int rows;

  void operator()(int global_leaf, float* into) const {
    const int64_t *const offset = &leaves.offsets[size_t(global_leaf - leaves.first_leaf)],
                         output = block * kOutputBlock;
    if (offset[0] == offset[1]) return void(std::fill_n(into, rows * kOutputBlock, 0.0f));
    multiply(low_bit_block(w, x, block, groups_to(offset[0]), groups_to(offset[1]), row, rows, into));
    w.add_protected({floats[row], rows, floats.cols, floats.stride}, offset[0], offset[1], output,
                    std::min(kOutputBlock, w.outputs() - output), into, kOutputBlock);
  }
};

// A block's outputs to their place.
void store_outputs(const float* y, int rows, int64_t outputs, const float* bias, float* out, int64_t row_stride) {
  for (int r = 0; r < rows; ++r, y += kOutputBlock, out += row_stride) {
    if (bias != nullptr)
      for (int64_t n = 0; n < outputs; ++n) out[n] = y[n] + bias[n];
    else if (outputs == kOutputBlock)
      std::copy_n(y, kOutputBlock, out);
    else
      std::copy_n(y, outputs, out);
  }
}

}  // namespace

void multiply_low_bit(Context& ctx, MatrixView<const float> x, const LowBitMatrix& w, const LowBitLeaves& leaves,
                      const float* bias, float* out, int64_t row_stride, int64_t node_stride) {
  PLEAT_ASSERT(x.cols == w.inputs(), x.cols, " columns for ", w.inputs(), " inputs");
  if (x.rows == 0 || leaves.count == 0) return;
  const QuantisedRows quantised = quantise_rows(ctx, x, w.protected_masks());
  const auto multiply = vector_ops(ctx.isa()).low_bit_block;
  // A narrow matrix has fewer groups than leaves.
  const auto empty = [&](const TreeNode& node) {
    const auto offset = [&](int leaf) { return leaves.offsets[size_t(leaf - leaves.first_leaf)]; };
    return bias == nullptr && offset(node.begin) == offset(node.end);
  };
  const auto multiply_block = [&](const BlockSums& sums) {
    const int64_t output = sums.block * kOutputBlock, outputs = std::min(kOutputBlock, w.outputs() - output);
    for (int64_t node = 0; node < leaves.count; ++node) {
      if (empty(leaves.nodes[node])) continue;
      alignas(64) float y[kMaxSharedRows * kOutputBlock];
      sum_leaves<kMaxSharedRows * kOutputBlock>(leaves.nodes[node], sums.rows * kOutputBlock, y, sums);
      store_outputs(y, sums.rows, outputs, bias ? bias + output : nullptr,
                    out + node * node_stride + sums.row * row_stride + output, row_stride);
    }
  };
  const int64_t block_bytes = std::max<int64_t>(1, w.inputs() * kOutputBlock * w.bits() / 8);
  const int64_t together = std::clamp<int64_t>(kTogetherBytes / block_bytes, 1, 8);
  ctx.team().split(LowBitAccess::blocks(w), [&](int, int64_t begin, int64_t end) {
    const int64_t first = begin * kOutputBlock, count = std::min(end * kOutputBlock, w.outputs()) - first;
    for (int64_t node = 0; node < leaves.count && count > 0; ++node)
      for (int64_t row = 0; row < x.rows && empty(leaves.nodes[node]); ++row)
        std::fill_n(out + node * node_stride + row * row_stride + first, count, 0.0f);
    // Some blocks' codes stay in the second-level cache for all rows, some rows for those blocks.
    for (int64_t some = begin; some < end; some += together) {
      for (int64_t row = 0; row < x.rows; row += kMaxSharedRows) {
        const int rows = int(std::min<int64_t>(kMaxSharedRows, x.rows - row));
        for (int64_t block = some; block < std::min(some + together, end); ++block)
          multiply_block({w, x, quantised, leaves, multiply, block, row, rows});
      }
    }
  });
}

}  // namespace pleat
