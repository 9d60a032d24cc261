#include "kernels/planes.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/check.h"
#include "kernels/context.h"
#include "kernels/leaf_sums.h"
#include "kernels/low_bit_blocks.h"
#include "kernels/planes_blocks.h"

namespace pleat {
namespace {

constexpr std::array<uint8_t, 128> scale_bytes() {
  std::array<uint8_t, 128> out{};
  out.fill(255);
  for (int byte = 0; byte < 128; ++byte) {
    if (!is_plane_scale(uint8_t(byte)) || plane_scale_value(uint8_t(byte)) > 127) continue;
    out[size_t(plane_scale_value(uint8_t(byte)))] = uint8_t(byte);
  }
  return out;
}

}  // namespace

uint8_t plane_scale_byte(int value) {
  static constexpr std::array<uint8_t, 128> bytes = scale_bytes();
  PLEAT_ASSERT(value >= 0 && value <= kPlaneLimit, value);
  return bytes[size_t(value)];
}

void plane_scale_values(const uint8_t* scales, int planes, uint8_t* values) {
  int sum = 0;
  for (int plane = 0; plane < planes; ++plane) {
    PLEAT_REQUIRE(is_plane_scale(scales[plane]), "a scale of planes is the byte ", int(scales[plane]),
                  ", which stands for no sum of two powers of two");
    sum += plane_scale_value(scales[plane]);
    values[plane] = uint8_t(plane_scale_value(scales[plane]));
  }
  PLEAT_REQUIRE(sum <= kPlaneLimit, "the scales of planes add up to ", sum, ", more than ", kPlaneLimit);
}

PlanesMatrix::PlanesMatrix(int planes, int64_t outputs, int64_t inputs)
    : ProtectedInputs(outputs, inputs), planes_(planes) {
  PLEAT_REQUIRE(planes >= 2 && planes <= 4, "a matrix has 2 to 4 planes, not ", planes);
}

void PlanesMatrix::add(int64_t to, int64_t first, int64_t count, PlaneScales kind, const uint8_t* scales,
                       const int8_t* exponents) {
  PLEAT_ASSERT(to == (blocks_.empty() ? 0 : blocks_.back().output + blocks_.back().count) && to + count <= outputs());
  const int64_t groups = groups_to(inputs()), begin = first / kPlaneOutputs,
                end = (first + count + kPlaneOutputs - 1) / kPlaneOutputs;
  const int64_t record = plane_record_bytes(planes_);
  uint8_t* const records = storage_.emplace_back(size_t((end - begin) * groups * record)).as<uint8_t>();
  float* const units = storage_.emplace_back(size_t((end - begin) * groups) * sizeof(float)).as<float>();
  for (int64_t i = 0; i < end - begin; ++i) {
    const int64_t lane = std::max(first - (begin + i) * kPlaneOutputs, int64_t(0)),
                  last = std::min(first + count - (begin + i) * kPlaneOutputs, kPlaneOutputs);
    blocks_.push_back({kind, to, int(lane), int(last - lane), records + i * groups * record, units + i * groups});
    to += last - lane;
    for (int64_t group = 0; group < groups; ++group)
      blocks_.back().units[group] = std::ldexp(1.0f, exponents[i * groups + group]);
  }
  if (kind == PlaneScales::column) {
    for (int64_t i = 0; i < end - begin; ++i, scales += inputs() * planes_)
      for (int64_t input = 0; input < inputs(); ++input)
        set_scales(blocks_[blocks_.size() - size_t(end - begin - i)], input / kGroup, int(input % kGroup),
                   scales + input * planes_);
    return;
  }
  const int64_t eights = (inputs() + kPlaneBlock - 1) / kPlaneBlock;
  const int64_t last_octet = (first + count + kPlaneBlock - 1) / kPlaneBlock;
  for (int64_t octet = first / kPlaneBlock; octet < last_octet; ++octet, scales += eights * planes_) {
    const int64_t block = octet * kPlaneBlock / kPlaneOutputs - begin;
    for (int64_t j = 0; j < eights; ++j)
      set_scales(blocks_[blocks_.size() - size_t(end - begin - block)], j / kPlaneBlock,
                 int(octet % kPlaneBlock * kPlaneBlock + j % kPlaneBlock), scales + j * planes_);
  }
}

const PlanesMatrix::Block& PlanesMatrix::block_of(int64_t output) const {
  const auto after = std::upper_bound(blocks_.begin(), blocks_.end(), output,
                                      [](int64_t n, const Block& block) { return n < block.output; });
  PLEAT_ASSERT(output >= 0 && after != blocks_.begin() && output < after[-1].output + after[-1].count, output, " of ",
               outputs());
  return after[-1];
}

void PlanesMatrix::set_scales(const Block& block, int64_t group, int table, const uint8_t* scales) {
  uint8_t* const to = block.records + group * plane_record_bytes(planes_) + table * planes_;
  plane_scale_values(scales, planes_, to);
}

void PlanesMatrix::pack(int64_t output, int64_t rows, const uint8_t* codes) {
  const int64_t row_bytes = (inputs() * planes_ + 7) / 8;
  for (int64_t row = 0; row < rows; ++row, codes += row_bytes) {
    const Block& block = block_of(output + row);
    const int lane = block.lane + int(output + row - block.output);
    for (int64_t input = 0; input < inputs(); ++input) {
      uint8_t* const record = block.records + input / kGroup * plane_record_bytes(planes_);
      const PlanePlace place = PlanePlace::of(block.kind, lane, int(input % kGroup));
      for (int plane = 0; plane < planes_; ++plane) {
        const int64_t from = input * planes_ + plane;
        const PlaneBit at(planes_, place, plane);
        record[at.byte] = uint8_t((record[at.byte] & ~(1 << at.bit)) | (codes[from / 8] >> from % 8 & 1) << at.bit);
      }
    }
  }
}

void PlanesMatrix::row(int64_t output, float* values) const {
  const Block& block = block_of(output);
  for (int64_t input = 0; input < inputs(); ++input) {
    const uint8_t* const record = block.records + input / kGroup * plane_record_bytes(planes_);
    const PlanePlace place = PlanePlace::of(block.kind, block.lane + int(output - block.output), int(input % kGroup));
    int sum = 0;
    for (int plane = 0; plane < planes_; ++plane) {
      const PlaneBit at(planes_, place, plane);
      const int scale = record[place.table * planes_ + plane];
      sum += record[at.byte] >> at.bit & 1 ? scale : -scale;
    }
    values[input] = block.units[input / kGroup] * float(sum);
  }
  protected_row(output, values);
}

size_t PlanesMatrix::bytes() const {
  size_t sum = protected_bytes();
  for (const Buffer& buffer : storage_) sum += buffer.bytes();
  return sum;
}

namespace {

// 64 outputs times up to kMaxSharedRows rows.
struct PlaneSums {
  const PlanesMatrix& w;
  PlanesBlock task;  // of all groups
  MatrixView<const float> floats;
  const LowBitLeaves& leaves;
  void (*multiply)(const PlanesBlock&);
  int64_t output;
  int lane, count;

  void operator()(int global_leaf, float* into) const {
    const int64_t* const offset = &leaves.offsets[size_t(global_leaf - leaves.first_leaf)];
    const int64_t begin = groups_to(offset[0]);
    PlanesBlock part = task;
    part.records += begin * plane_record_bytes(task.planes);
    part.units += begin;
    part.groups = groups_to(offset[1]) - begin;
    part.q += begin * kGroup;
    part.q_scales += begin;
    part.y = into;
    multiply(part);
    w.add_protected(floats, offset[0], offset[1], output, count, into + lane, kPlaneOutputs);
  }
};

}  // namespace

void multiply_planes(Context& ctx, MatrixView<const float> x, const PlanesMatrix& w, const LowBitLeaves& leaves,
                     const float* bias, float* out, int64_t row_stride, int64_t node_stride) {
  PLEAT_ASSERT(x.cols == w.inputs(), x.cols, " columns for ", w.inputs(), " inputs");
  if (x.rows == 0 || leaves.count == 0) return;
  const QuantisedRows quantised = quantise_rows(ctx, x, w.protected_masks());
  const auto multiply = vector_ops(ctx.isa()).planes_block;
  const auto& blocks = w.blocks();
  ctx.team().split(int64_t(blocks.size()), [&](int, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto& block = blocks[size_t(i)];
      for (int64_t row = 0; row < x.rows; row += kMaxSharedRows) {
        const int rows = int(std::min<int64_t>(kMaxSharedRows, x.rows - row));
        const PlanesBlock task{.records = block.records,
                               .units = block.units,
                               .planes = w.planes(),
                               .by_column = block.kind == PlaneScales::column,
                               .groups = quantised.groups,
                               .stride = quantised.groups,
                               .rows = rows,
                               .q = quantised.q + row * quantised.groups * kGroup,
                               .q_scales = quantised.scales + row * quantised.groups};
        const PlaneSums sums{w,          task,       {x[row], rows, x.cols, x.stride}, leaves, multiply, block.output,
                             block.lane, block.count};
        for (int64_t node = 0; node < leaves.count; ++node) {
          alignas(64) float y[kMaxSharedRows * kPlaneOutputs];
          sum_leaves<kMaxSharedRows * kPlaneOutputs>(leaves.nodes[node], rows * kPlaneOutputs, y, sums);
          float* corner = out + node * node_stride + row * row_stride + block.output;
          const float* from = y + block.lane;
          for (int r = 0; r < rows; ++r, corner += row_stride, from += kPlaneOutputs)
            for (int n = 0; n < block.count; ++n) corner[n] = bias ? from[n] + bias[block.output + n] : from[n];
        }
      }
    }
  });
}

}  // namespace pleat
