// Single outputs and rows back as f32: embeddings are read from the packed weights, so they are held once.
#include <cstring>

#include "kernels/check.h"
#include "kernels/neuron_rows.h"

namespace pleat {

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

void NeuronRows::unpack(int64_t neuron, float* values) const {
  PLEAT_ASSERT(neuron >= 0 && neuron < neurons_);
  if (format_ == WeightFormat::f32) {
    std::memcpy(values, row(neuron), size_t(width_) * sizeof(float));
  } else {
    const bf16* source = reinterpret_cast<const bf16*>(row(neuron));
    for (int64_t i = 0; i < width_; ++i) values[i] = to_f32(source[i]);
  }
}

}  // namespace pleat
