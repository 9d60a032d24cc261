#include "kernels/cuda/rows.h"

#include <cstring>

#include "kernels/cuda/in_shares.h"
#include "kernels/neuron_rows.h"

namespace pleat::cuda {
namespace {

Rows shape(int bits, int64_t rows, int64_t width, int64_t stride) {
  Rows out;
  out.bits = bits;
  out.rows = int(rows);
  out.width = int(width);
  out.stride = stride;
  out.has_minimums = bits < 8;
  return out;
}

}  // namespace

DeviceRows::DeviceRows(const NeuronRows& rows, const Stream& stream) {
  shape_ = shape(bits_of(rows.format()), rows.neurons(), rows.width(), rows.place_bytes());
  shape_.planes = has_planes(rows.format());
  std::vector<unsigned char> apart(static_cast<size_t>(rows.neurons() * shape_.stride));  // from other matrices' rows
  in_shares(rows.neurons(), 1024, [&](int64_t begin, int64_t end) {
    for (int64_t neuron = begin; neuron < end; ++neuron)
      std::memcpy(&apart[size_t(neuron * shape_.stride)], rows.row(neuron), size_t(rows.row_bytes()));
  });
  data_ = {std::span<const unsigned char>(apart), stream};
  protected_inputs_ = {std::span(rows.protected_inputs()), stream};
  protected_rows_ = {std::span(rows.protected_neurons()), stream};
  std::vector<uint16_t> weights(rows.protected_neurons().size() * size_t(rows.width()));
  for (size_t i = 0; i < rows.protected_neurons().size(); ++i)
    std::memcpy(&weights[i * size_t(rows.width())], rows.protected_row(rows.protected_neurons()[i]),
                size_t(rows.width()) * sizeof(uint16_t));
  protected_row_weights_ = {std::span<const uint16_t>(weights), stream};
}

DeviceRows::DeviceRows(const LowBitMatrix& matrix, const Stream& stream) {
  const int bits = matrix.bits();
  const std::vector<int32_t>& loud = matrix.protected_inputs();
  const int64_t width = matrix.inputs(), groups = (width + kGroup - 1) / kGroup;
  const int64_t scales_at = groups * 8 * bits, minimums_at = scales_at + groups * 2;
  const int64_t loud_at = bits == 8 ? minimums_at : minimums_at + groups * 2;
  shape_ = shape(bits, matrix.outputs(), width, (loud_at + int64_t(loud.size()) * 2 + 63) / 64 * 64);
  std::vector<unsigned char> bytes(static_cast<size_t>(matrix.outputs() * shape_.stride));
  in_shares(matrix.outputs(), 1024, [&](int64_t begin, int64_t end) {
    std::vector<float> values(static_cast<size_t>(width));
    for (int64_t output = begin; output < end; ++output) {
      unsigned char* const row = &bytes[size_t(output * shape_.stride)];
      const auto put = [&](int64_t at, bf16 value) { std::memcpy(row + at, &value, sizeof value); };
      for (int64_t group = 0; group < groups; ++group) {
        uint8_t codes[kGroup] = {};
        for (int64_t k = group * kGroup; k < std::min(width, (group + 1) * kGroup); ++k)
          codes[k % kGroup] = uint8_t(matrix.code(output, k));
        write_group(codes, bits, row + group * 8 * bits);
        put(scales_at + 2 * group, matrix.scale(output, group));
        if (bits < 8) put(minimums_at + 2 * group, matrix.minimum(output, group));
      }
      if (loud.empty()) continue;
      matrix.row(output, values.data());
      for (size_t i = 0; i < loud.size(); ++i) put(loud_at + 2 * int64_t(i), to_bf16(values[size_t(loud[i])]));
    }
  });
  data_ = {std::span<const unsigned char>(bytes), stream};
  protected_inputs_ = {std::span(loud), stream};
}

DeviceRows::DeviceRows(const PlanesMatrix& matrix, const Stream& stream)
    : shape_(shape(matrix.planes(), matrix.outputs(), matrix.inputs(), 0)), records_(matrix, stream) {
  shape_.planes = true;
  shape_.has_minimums = false;
  protected_inputs_ = {std::span(matrix.protected_inputs()), stream};
}

namespace {

DeviceRows rows_of(const PackedMatrix& matrix, const Stream& stream) {
  if (has_planes(matrix.format())) return {matrix.planes(), stream};
  if (is_low_bit(matrix.format())) return {matrix.low_bit(), stream};
  NeuronRows rows(matrix.format(), matrix.outputs(), matrix.inputs());
  in_shares(matrix.outputs(), 1024, [&](int64_t begin, int64_t end) {
    std::vector<float> values(static_cast<size_t>(matrix.inputs()));
    for (int64_t output = begin; output < end; ++output) {
      matrix.column(output, values.data());
      rows.pack(output, 0, {values.data(), DType::f32, 1, matrix.inputs(), matrix.inputs(), 1});
    }
  });
  return {rows, stream};
}

}  // namespace

DeviceRows::DeviceRows(const PackedMatrix& matrix, const Stream& stream) : DeviceRows(rows_of(matrix, stream)) {}

int64_t DeviceRows::bytes() const {
  return int64_t(data_.size() + records_.bytes() + protected_row_weights_.size() * sizeof(uint16_t));
}

Rows DeviceRows::view() const {
  Rows out = shape_;
  out.data = data_.data();
  out.blocks = records_.view();
  out.protected_inputs = protected_inputs_.data();
  out.protected_input_count = int(protected_inputs_.size());
  out.protected_rows = protected_rows_.data();
  out.protected_row_weights = protected_row_weights_.data();
  out.protected_row_count = int(protected_rows_.size());
  return out;
}

}  // namespace pleat::cuda
