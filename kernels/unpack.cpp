// Outputs and rows back as they came, and as f32: embeddings are read from the packed weights, so they are held once.
#include <algorithm>
#include <cstring>

#include "kernels/check.h"
#include "kernels/context.h"
#include "kernels/neuron_rows.h"
#include "kernels/panel_product.h"
#include "kernels/vector_ops.h"

namespace pleat {
namespace {

// Words of a panel, [words][32], to rows: tile by tile, since a row's words are far apart.
void rows_of_panel(const uint32_t* panel, int64_t words, int64_t rows, std::byte* to, int64_t stride) {
  constexpr int64_t kTile = 16;
  for (int64_t begin = 0; begin < words; begin += kTile) {
    const uint32_t* const tile = panel + begin * kColumnBlock;
    const int64_t count = std::min(kTile, words - begin);
    for (int64_t row = 0; row < rows; ++row) {
      uint32_t piece[kTile];
      for (int64_t i = 0; i < count; ++i) piece[i] = tile[i * kColumnBlock + row];
      std::memcpy(to + row * stride + begin * int64_t(sizeof(uint32_t)), piece, size_t(count) * sizeof(uint32_t));
    }
  }
}

}  // namespace

void PackedMatrix::column(int64_t output, float* values) const {
  PLEAT_ASSERT(output >= 0 && output < outputs_, output, " of ", outputs_);
  if (has_planes(format_)) return planes_.row(output, values);
  if (is_low_bit(format_)) return low_bit_.row(output, values);
  const int64_t panel = output / kColumnBlock * padded_offsets_.back() * kColumnBlock, lane = output % kColumnBlock;
  for (int leaf = 0; leaf < leaves(); ++leaf) {
    for (int64_t k = leaf_offsets_[leaf]; k < leaf_offsets_[leaf + 1]; ++k) {
      const int64_t row = padded_offsets_[leaf] + k - leaf_offsets_[leaf];
      values[k] = format_ == WeightFormat::f32
                      ? data_.as<float>()[panel + row * kColumnBlock + lane]
                      : to_f32(data_.as<bf16>()[panel + row / 2 * 2 * kColumnBlock + lane * 2 + row % 2]);
    }
  }
}

void PackedMatrix::rows(int64_t output, int64_t count, std::byte* to, int64_t stride) const {
  PLEAT_ASSERT(!is_low_bit(format_) && output >= 0 && output + count <= outputs_, output, " + ", count, " of ",
               outputs_);
  const int64_t element = weight_bytes(format_), per_word = 4 / element;
  for (int64_t row = 0, here = 0; row < count; row += here) {
    const int64_t lane = (output + row) % kColumnBlock;
    here = std::min(kColumnBlock - lane, count - row);
    const int64_t panel = (output + row) / kColumnBlock * padded_offsets_.back();
    for (int leaf = 0; leaf < leaves(); ++leaf) {
      const int64_t begin = leaf_offsets_[leaf], inputs = leaf_offsets_[leaf + 1] - begin, words = inputs / per_word;
      const uint32_t* const from =
          data_.as<uint32_t>() + (panel + padded_offsets_[leaf]) / per_word * kColumnBlock + lane;
      std::byte* const there = to + row * stride + begin * element;
      rows_of_panel(from, words, here, there, stride);
      for (int64_t i = 0; i < here && inputs % per_word != 0; ++i)  // half of a leaf's last word is padding
        std::memcpy(there + i * stride + words * 4, from + words * kColumnBlock + i, size_t(element));
    }
  }
}

void NeuronRows::unpack(int64_t neuron, float* values) const {
  PLEAT_ASSERT(neuron >= 0 && neuron < neurons_);
  if (is_low_bit(format_)) {
    std::vector<float> padded(size_t(groups() * kGroup));
    unpack_block(detect_isa(), neuron, 1, 0, groups() * kGroup, padded.data(), 0);
    std::copy_n(padded.data(), width_, values);
  } else if (format_ == WeightFormat::f32) {
    std::memcpy(values, row(neuron), size_t(width_) * sizeof(float));
  } else {
    const bf16* source = reinterpret_cast<const bf16*>(row(neuron));
    for (int64_t i = 0; i < width_; ++i) values[i] = to_f32(source[i]);
  }
}

void NeuronRows::unpack_block(Isa isa, int64_t neuron, int64_t rows, int64_t column, int64_t columns, float* out,
                              int64_t stride) const {
  vector_ops(isa).unpack_low_bit({.bits = bits_of(format_),
                                  .weights = low_bit_row(neuron),
                                  .row_bytes = stride_bytes_,
                                  .rows = rows,
                                  .column = column,
                                  .columns = columns,
                                  .out = out,
                                  .stride = stride});
  for (size_t i = 0; i < protected_inputs_.size(); ++i) {
    const int64_t at = protected_inputs_[i] - column;
    if (at < 0 || at >= columns) continue;
    for (int64_t row = 0; row < rows; ++row) out[row * stride + at] = to_f32(protected_weights(neuron + row)[i]);
  }
  for (size_t place = 0; place < protected_neurons_.size(); ++place) {
    const int64_t row = protected_neurons_[place] - neuron;
    if (row < 0 || row >= rows) continue;
    const bf16* values = protected_rows_.as<bf16>() + int64_t(place) * width_ + column;
    for (int64_t i = 0; i < std::min(columns, width_ - column); ++i) out[row * stride + i] = to_f32(values[i]);
  }
}

}  // namespace pleat
