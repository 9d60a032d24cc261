#include "kernels/neuron_rows.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "kernels/check.h"
#include "kernels/low_bit_row.h"
#include "kernels/panel_product.h"
#include "kernels/planes.h"
#include "kernels/weight_copy.h"

namespace pleat {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kReadPastEnd = 64;  // of the last row: see low_bit_row.h

int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// Rows that lie one after another in the block.
void copy_rows(const WeightBlock& block, int64_t element, int64_t stride_bytes, std::byte* corner) {
  with_floats(block, [&](auto* data) {
    for (int64_t neuron = 0; neuron < block.inputs; ++neuron)
      convert_row(data + neuron * block.input_stride, block.outputs, element == sizeof(float),
                  corner + neuron * stride_bytes);
  });
}

// Rows that are the block's columns: tile by tile, since columns as long as a power of two fit no cache.
template <class To>
void turn_rows(const WeightBlock& block, int64_t stride_bytes, std::byte* corner) {
  constexpr int64_t kTile = 32;
  To tile[kTile][kTile];
  with_floats(block, [&](auto* data) {
    for (int64_t first = 0; first < block.outputs; first += kTile)
      for (int64_t neuron = 0; neuron < block.inputs; neuron += kTile) {
        const int64_t columns = std::min(kTile, block.outputs - first),
                      neurons = std::min(kTile, block.inputs - neuron);
        for (int64_t i = 0; i < columns; ++i)
          convert_row(data + neuron + (first + i) * block.output_stride, neurons, sizeof(To) == sizeof(float),
                      reinterpret_cast<std::byte*>(tile[i]));
        for (int64_t n = 0; n < neurons; ++n) {
          To* const to = reinterpret_cast<To*>(corner + (neuron + n) * stride_bytes) + first;
          for (int64_t i = 0; i < columns; ++i) to[i] = tile[i][n];
        }
      }
  });
}

}  // namespace

NeuronRows::NeuronRows(WeightFormat format, int64_t neurons, int64_t width)
    : format_(format), neurons_(neurons), width_(width) {
  stride_bytes_ = place_bytes();
  data_ = std::make_shared<const Buffer>(size_t(neurons * stride_bytes_ + kReadPastEnd));
  first_ = data_->as<std::byte>();
}

int64_t NeuronRows::place_bytes() const { return round_up(row_bytes(), kAlignment); }

int64_t NeuronRows::protected_weights_offset() const {
  return plane_scales_offset() + (has_planes(format_) ? round_up(groups() * bits_of(format_), sizeof(bf16)) : 0);
}

int64_t NeuronRows::plane_scales_offset() const {
  const int bits = bits_of(format_);
  return groups() * (8 * bits + (bits == 8 ? 1 : 2) * int64_t(sizeof(bf16)));
}

int64_t NeuronRows::row_bytes() const {
  if (!is_low_bit(format_)) return width_ * weight_bytes(format_);
  return protected_weights_offset() + int64_t(protected_inputs_.size() * sizeof(bf16));
}

LowBitRow NeuronRows::low_bit_row(int64_t neuron) const {
  const std::byte* codes = row(neuron);
  const bf16* scales = reinterpret_cast<const bf16*>(codes + groups() * 8 * bits_of(format_));
  const uint8_t* const planes =
      has_planes(format_) ? reinterpret_cast<const uint8_t*>(codes) + plane_scales_offset() : nullptr;
  return {reinterpret_cast<const uint8_t*>(codes), scales, scales + groups(), planes};
}

const bf16* NeuronRows::protected_weights(int64_t neuron) const {
  return reinterpret_cast<const bf16*>(row(neuron) + protected_weights_offset());
}

const bf16* NeuronRows::protected_row(int64_t neuron) const {
  const auto at = std::lower_bound(protected_neurons_.begin(), protected_neurons_.end(), neuron);
  if (at == protected_neurons_.end() || *at != neuron) return nullptr;
  return protected_rows_.as<bf16>() + (at - protected_neurons_.begin()) * width_;
}

void NeuronRows::pack(int64_t neuron, int64_t column, const WeightBlock& block) {
  PLEAT_ASSERT(!is_low_bit(format_));
  PLEAT_ASSERT(neuron >= 0 && column >= 0 && neuron + block.inputs <= neurons_ && column + block.outputs <= width_,
               "block [", block.inputs, ", ", block.outputs, "] at (", neuron, ", ", column, ") of [", neurons_, ", ",
               width_, "]");
  std::byte* corner = place(neuron) + column * weight_bytes(format_);
  if (block.output_stride == 1) return copy_rows(block, weight_bytes(format_), stride_bytes_, corner);
  format_ == WeightFormat::f32 ? turn_rows<float>(block, stride_bytes_, corner)
                               : turn_rows<bf16>(block, stride_bytes_, corner);
}

void NeuronRows::pack_low_bit(int64_t neuron, int64_t rows, const uint8_t* codes, const bf16* scale,
                              const bf16* minimum, const uint8_t* plane_scales) {
  PLEAT_ASSERT(is_low_bit(format_) && neuron >= 0 && neuron + rows <= neurons_, neuron, " + ", rows, " of ", neurons_);
  const int bits = bits_of(format_);
  PLEAT_ASSERT((minimum == nullptr) == (bits == 8) && (plane_scales != nullptr) == has_planes(format_), bits, " bits");
  const int64_t code_bytes = (width_ * bits + 7) / 8, group_bytes = 8 * bits;
  for (int64_t row = 0; row < rows; ++row, codes += code_bytes) {
    std::byte* const to = place(neuron + row);
    for (int64_t group = 0; group < groups(); ++group) {
      uint8_t values[kGroup];
      read_group(codes + group * group_bytes, std::min(kGroup, width_ - group * kGroup), bits, values);
      write_group(values, bits, reinterpret_cast<uint8_t*>(to) + group * group_bytes);
    }
    bf16* const scales = reinterpret_cast<bf16*>(to + groups() * group_bytes);
    std::copy_n(scale + row * groups(), groups(), scales);
    if (minimum) std::copy_n(minimum + row * groups(), groups(), scales + groups());
    if (!plane_scales) continue;
    for (int64_t group = 0; group < groups(); ++group)
      plane_scale_values(plane_scales + (row * groups() + group) * bits, bits,
                         reinterpret_cast<uint8_t*>(to) + plane_scales_offset() + group * bits);
  }
}

void NeuronRows::protect(std::vector<int32_t> inputs) {
  PLEAT_ASSERT(is_low_bit(format_) && protected_inputs_.empty() && std::is_sorted(inputs.begin(), inputs.end()));
  PLEAT_ASSERT(inputs.empty() || (inputs.front() >= 0 && inputs.back() < width_));
  if (inputs.empty()) return;
  const int64_t packed_bytes = row_bytes();
  protected_inputs_ = std::move(inputs);
  protected_masks_.assign(size_t(groups()), 0);
  for (const int32_t input : protected_inputs_)
    protected_masks_[size_t(input / kGroup)] |= uint64_t(1) << input % kGroup;

  const int64_t stride_bytes = place_bytes();
  if (stride_bytes == stride_bytes_) return;
  auto moved = std::make_shared<const Buffer>(size_t(neurons_ * stride_bytes + kReadPastEnd));
  for (int64_t neuron = 0; neuron < neurons_; ++neuron)
    std::memcpy(moved->as<std::byte>() + neuron * stride_bytes, row(neuron), size_t(packed_bytes));
  data_ = std::move(moved);
  first_ = data_->as<std::byte>();
  stride_bytes_ = stride_bytes;
}

void lay_side_by_side(std::span<NeuronRows* const> matrices) {
  static std::mutex one_at_a_time;  // what is laid out is held twice meanwhile
  if (matrices.size() < 2) return;
  const std::lock_guard lock(one_at_a_time);
  const int64_t neurons = matrices[0]->neurons();
  int64_t stride = 0, offset = 0;
  for (const NeuronRows* rows : matrices) {
    PLEAT_ASSERT(rows->neurons() == neurons, rows->neurons(), " and ", neurons, " neurons");
    stride += rows->place_bytes();
  }
  const auto together = std::make_shared<const Buffer>(size_t(neurons * stride + kReadPastEnd));
  for (NeuronRows* rows : matrices) {
    std::byte* const first = together->as<std::byte>() + offset;
    for (int64_t neuron = 0; neuron < neurons; ++neuron)
      std::memcpy(first + neuron * stride, rows->row(neuron), size_t(rows->row_bytes()));
    offset += rows->place_bytes();
    rows->data_ = together;
    rows->first_ = first;
    rows->stride_bytes_ = stride;
  }
}

void NeuronRows::pack_protected(int64_t neuron, int64_t rows, const bf16* values, int64_t stride) {
  const int64_t count = int64_t(protected_inputs_.size());
  PLEAT_ASSERT(neuron >= 0 && neuron + rows <= neurons_ && stride >= count);
  for (int64_t row = 0; row < rows; ++row) {
    std::byte* const to = place(neuron + row) + protected_weights_offset();
    std::copy_n(values + row * stride, count, reinterpret_cast<bf16*>(to));
  }
}

void NeuronRows::protect_neurons(std::vector<int32_t> neurons) {
  PLEAT_ASSERT(is_low_bit(format_) && protected_neurons_.empty() && std::is_sorted(neurons.begin(), neurons.end()));
  PLEAT_ASSERT(neurons.empty() || (neurons.front() >= 0 && neurons.back() < neurons_));
  protected_neurons_ = std::move(neurons);
  protected_rows_ = Buffer(protected_neurons_.size() * size_t(width_) * sizeof(bf16));
}

void NeuronRows::pack_protected_neuron(int64_t place, const bf16* values) {
  PLEAT_ASSERT(place >= 0 && place < int64_t(protected_neurons_.size()), place, " of ", protected_neurons_.size());
  std::copy_n(values, width_, protected_rows_.as<bf16>() + place * width_);
}

}  // namespace pleat
