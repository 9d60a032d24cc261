#include "kernels/cuda/rows.h"

#include <algorithm>
#include <cstring>

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

// `rows` of `stride` bytes on the device: write(first, count, to) gives `count` of them at a time, so that the host's
// caches have them. What it leaves out is 0.
template <class Write>
DeviceArray<unsigned char> written(int64_t rows, int64_t stride, const Stream& stream, Write write) {
  constexpr int64_t kPieceBytes = 4 << 20;
  const int64_t most = std::clamp<int64_t>(kPieceBytes / std::max<int64_t>(1, stride), 1, std::max<int64_t>(1, rows));
  std::vector<unsigned char> piece(static_cast<size_t>(most * stride));
  DeviceArray<unsigned char> all(static_cast<size_t>(rows * stride));
  for (int64_t first = 0, count = 0; first < rows; first += count) {
    count = std::min(most, rows - first);
    write(first, count, piece.data());
    copy_to_device(all.data() + first * stride, piece.data(), size_t(count * stride), stream.get());
    stream.wait();
  }
  return all;
}

// A matrix in low bits by row.
struct LowBitWriter {
  const LowBitMatrix& matrix;
  int bits = matrix.bits();
  int64_t groups = (matrix.inputs() + kGroup - 1) / kGroup;
  int64_t scales_at = groups * 8 * bits, minimums_at = scales_at + groups * 2;
  int64_t protected_at = bits == 8 ? minimums_at : minimums_at + groups * 2;
  int64_t stride = (protected_at + int64_t(matrix.protected_inputs().size()) * 2 + 63) / 64 * 64;

  void row(int64_t output, unsigned char* to) const {
    const auto put = [&](int64_t at, bf16 value) { std::memcpy(to + at, &value, sizeof value); };
    for (int64_t group = 0; group < groups; ++group) {
      uint8_t codes[kGroup];
      matrix.codes(output, group, codes);
      write_group(codes, bits, to + group * 8 * bits);
      put(scales_at + 2 * group, matrix.scale(output, group));
      if (bits < 8) put(minimums_at + 2 * group, matrix.minimum(output, group));
    }
    const std::vector<int32_t>& inputs = matrix.protected_inputs();
    if (inputs.empty()) return;
    std::vector<float> values(static_cast<size_t>(matrix.inputs()));
    matrix.protected_row(output, values.data());
    for (size_t i = 0; i < inputs.size(); ++i) put(protected_at + 2 * int64_t(i), to_bf16(values[size_t(inputs[i])]));
  }
};

}  // namespace

DeviceRows::DeviceRows(const NeuronRows& rows, const Stream& stream) {
  shape_ = shape(bits_of(rows.format()), rows.neurons(), rows.width(), rows.place_bytes());
  shape_.planes = has_planes(rows.format());
  data_ = written(rows.neurons(), shape_.stride, stream, [&](int64_t first, int64_t count, unsigned char* to) {
    for (int64_t i = 0; i < count; ++i)
      std::memcpy(to + i * shape_.stride, rows.row(first + i), size_t(rows.row_bytes()));
  });
  protected_inputs_ = {std::span(rows.protected_inputs()), stream};
  protected_rows_ = {std::span(rows.protected_neurons()), stream};
  std::vector<uint16_t> weights(rows.protected_neurons().size() * size_t(rows.width()));
  for (size_t i = 0; i < rows.protected_neurons().size(); ++i)
    std::memcpy(&weights[i * size_t(rows.width())], rows.protected_row(rows.protected_neurons()[i]),
                size_t(rows.width()) * sizeof(uint16_t));
  protected_row_weights_ = {std::span<const uint16_t>(weights), stream};
}

DeviceRows::DeviceRows(const LowBitMatrix& matrix, const Stream& stream) {
  const LowBitWriter writer{matrix};
  shape_ = shape(matrix.bits(), matrix.outputs(), matrix.inputs(), writer.stride);
  data_ = written(matrix.outputs(), shape_.stride, stream, [&](int64_t first, int64_t count, unsigned char* to) {
    for (int64_t i = 0; i < count; ++i) writer.row(first + i, to + i * shape_.stride);
  });
  protected_inputs_ = {std::span(matrix.protected_inputs()), stream};
}

DeviceRows::DeviceRows(const PackedMatrix& matrix, const Stream& stream) {
  if (has_planes(matrix.format())) {
    *this = DeviceRows(matrix.planes(), stream);
  } else if (is_low_bit(matrix.format())) {
    *this = DeviceRows(matrix.low_bit(), stream);
  } else {
    const int bits = bits_of(matrix.format());
    shape_ = shape(bits, matrix.outputs(), matrix.inputs(), (matrix.inputs() * bits / 8 + 63) / 64 * 64);
    data_ = written(matrix.outputs(), shape_.stride, stream, [&](int64_t first, int64_t count, unsigned char* to) {
      matrix.rows(first, count, reinterpret_cast<std::byte*>(to), shape_.stride);
    });
  }
}

DeviceRows::DeviceRows(const PlanesMatrix& matrix, const Stream& stream)
    : shape_(shape(matrix.planes(), matrix.outputs(), matrix.inputs(), 0)), records_(matrix, stream) {
  shape_.planes = true;
  shape_.has_minimums = false;
  protected_inputs_ = {std::span(matrix.protected_inputs()), stream};
}

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
