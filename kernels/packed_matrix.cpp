#include <algorithm>
#include <cstring>

#include "kernels/check.h"
#include "kernels/context.h"
#include "kernels/matmul.h"
#include "kernels/matmul_tile.h"
#include "kernels/panel_product.h"
#include "kernels/weight_copy.h"

namespace pleat {
namespace {

int64_t blocks(int64_t n, int64_t size) { return (n + size - 1) / size; }

// Copies the block in runs of outputs that share a panel: element n of a run goes to start(k, first n)[i * step], i
// from 0.
template <class From, class Start, class Convert>
void copy_runs(const From* data, const WeightBlock& block, int64_t output, int64_t step, Start start, Convert convert) {
  for (int64_t begin = 0; begin < block.outputs;) {
    const int64_t n = std::min(block.outputs - begin, kColumnBlock - (output + begin) % kColumnBlock);
    for (int64_t k = 0; k < block.inputs; ++k) {
      const From* from = data + k * block.input_stride + begin * block.output_stride;
      auto* to = start(k, begin);
      for (int64_t i = 0; i < n; ++i) to[i * step] = convert(from[i * block.output_stride]);
    }
    begin += n;
  }
}

template <class Start, class Convert>
void copy_floats(const WeightBlock& block, int64_t output, int64_t step, Start start, Convert convert) {
  with_floats(block, [&](auto* data) {
    copy_runs(data, block, output, step, start, [&](auto element) { return convert(value_of(element)); });
  });
}

float same(float value) { return value; }

WeightBlock part_of(const WeightBlock& block, int64_t input, int64_t inputs, int64_t output, int64_t outputs) {
  WeightBlock part = block;
  part.inputs = inputs;
  part.outputs = outputs;
  with_floats(block, [&](auto* data) { part.data = data + input * block.input_stride + output * block.output_stride; });
  return part;
}

void check_inside(const WeightBlock& block, int64_t input, int64_t output, int64_t inputs, int64_t outputs) {
  PLEAT_ASSERT(input >= 0 && output >= 0 && input + block.inputs <= inputs && output + block.outputs <= outputs,
               "block [", block.inputs, ", ", block.outputs, "] at (", input, ", ", output, ") of [", inputs, ", ",
               outputs, "]");
}

constexpr std::string_view kNames[] = {"f32",  "bf16", "int8",    "int6",    "int5",   "int4",
                                       "int3", "int2", "planes4", "planes3", "planes2"};
constexpr int kBits[] = {32, 16, 8, 6, 5, 4, 3, 2, 4, 3, 2};

}  // namespace

int bits_of(WeightFormat format) { return kBits[size_t(format)]; }

bool is_low_bit(WeightFormat format) { return bits_of(format) <= 8; }

bool has_planes(WeightFormat format) { return format >= WeightFormat::planes4; }

int64_t matrix_bytes(WeightFormat format, int64_t inputs, int64_t outputs) {
  const int64_t codes = inputs * outputs * bits_of(format) / 8;
  if (!is_low_bit(format)) return codes;
  if (has_planes(format))  // by column; by block as many but for what is left over
    return codes + blocks(outputs, kPlaneOutputs) * (inputs * bits_of(format) + blocks(inputs, kGroup));
  const int64_t numbers = format == WeightFormat::int8 ? 1 : 2;
  return codes + numbers * int64_t(sizeof(bf16)) * blocks(inputs, kGroup) * outputs;
}

std::string_view name_of(WeightFormat format) { return kNames[size_t(format)]; }

WeightFormat weight_format_named(std::string_view name) {
  for (size_t i = 0; i < std::size(kNames); ++i)
    if (name == kNames[i]) return WeightFormat(i);
  throw Error(ErrorKind::invalid, concat("unknown weight format '", name, "'"));
}

PackedMatrix::PackedMatrix(WeightFormat format, int64_t inputs, int64_t outputs, std::vector<int64_t> leaf_offsets)
    : format_(format), inputs_(inputs), outputs_(outputs), leaf_offsets_(std::move(leaf_offsets)) {
  PLEAT_ASSERT(!leaf_offsets_.empty() && leaf_offsets_.front() == 0 && leaf_offsets_.back() == inputs);
  PLEAT_ASSERT(std::is_sorted(leaf_offsets_.begin(), leaf_offsets_.end()));
  if (is_low_bit(format)) {
    for (int64_t offset : leaf_offsets_)
      PLEAT_ASSERT(offset % kGroup == 0 || offset == inputs, "low-bit leaf at ", offset);
    if (has_planes(format))
      planes_ = PlanesMatrix(bits_of(format), outputs, inputs);
    else
      low_bit_ = LowBitMatrix(bits_of(format), outputs, inputs);
    return;
  }
  padded_offsets_.resize(leaf_offsets_.size());
  pad_leaves(format, leaf_offsets_, padded_offsets_.data());
  const int64_t panels = blocks(outputs, kColumnBlock);
  data_ = Buffer(size_t(panels * padded_offsets_.back() * kColumnBlock * weight_bytes(format)));
}

// Element by element.
void PackedMatrix::pack_elements(int64_t input, int64_t output, const WeightBlock& block) {
  size_t leaf = 0;  // where the last input was; inputs come in ascending order
  const auto padded_input = [&](int64_t k) {
    while (k < leaf_offsets_[leaf]) --leaf;
    while (k >= leaf_offsets_[leaf + 1]) ++leaf;
    return padded_offsets_[leaf] + k - leaf_offsets_[leaf];
  };
  // Places are [panels][padded inputs][32]; `packed` inputs share a run of 32 (bf16: 2).
  const auto place = [&](int64_t k, int64_t n, int64_t packed) {
    const int64_t row = padded_input(input + k), column = (output + n) % kColumnBlock;
    const int64_t panel = (output + n) / kColumnBlock * padded_offsets_.back();
    return (panel + row - row % packed) * kColumnBlock + column * packed + row % packed;
  };
  if (format_ == WeightFormat::f32) {
    const auto start = [&](int64_t k, int64_t n) { return data_.as<float>() + place(k, n, 1); };
    copy_floats(block, output, 1, start, same);
  } else {
    const auto start = [&](int64_t k, int64_t n) { return data_.as<bf16>() + place(k, n, 2); };
    copy_floats(block, output, 2, start, to_bf16);
  }
}

// A whole panel's outputs, from a place on where a word of the panel begins, as many inputs as make whole words. Rows
// of 32 outputs are woven, rows of inputs transposed; those of another type are converted first, a piece at a time.
void PackedMatrix::pack_panel(int64_t padded_input, int64_t output, const WeightBlock& block) {
  constexpr int64_t kInputs = 64;  // at a time
  alignas(64) std::byte converted[kColumnBlock * kInputs * sizeof(float)];
  const int64_t element = weight_bytes(format_), per_word = 4 / element;
  const bool as_it_is = block.dtype == (format_ == WeightFormat::f32 ? DType::f32 : DType::bf16);
  const bool by_input = block.output_stride == 1;
  const TileKernels& kernels = tile_kernels(detect_isa());
  const int64_t panel = output / kColumnBlock * padded_offsets_.back();
  uint32_t* to = data_.as<uint32_t>() + (panel + padded_input) / per_word * kColumnBlock;
  for (int64_t k = 0; k < block.inputs; k += kInputs, to += kInputs / per_word * kColumnBlock) {
    const int64_t inputs = std::min(kInputs, block.inputs - k);
    const int64_t rows = by_input ? inputs : kColumnBlock, columns = by_input ? kColumnBlock : inputs;
    const std::byte* from = converted;
    int64_t stride = columns * element;
    with_floats(block, [&](auto* data) {
      const int64_t row_stride = by_input ? block.input_stride : block.output_stride;
      data += k * block.input_stride;
      if (as_it_is) {
        from = reinterpret_cast<const std::byte*>(data);
        stride = row_stride * element;
        return;
      }
      for (int64_t row = 0; row < rows; ++row)
        convert_row(data + row * row_stride, columns, format_ == WeightFormat::f32, converted + row * stride);
    });
    if (!by_input)
      kernels.transpose(from, stride, kColumnBlock, inputs / per_word, to);
    else if (format_ == WeightFormat::bf16)
      kernels.weave(from, stride, inputs / 2, to);
    else
      for (int64_t row = 0; row < rows; ++row)
        std::memcpy(to + row * kColumnBlock, from + row * stride, kColumnBlock * sizeof(float));
  }
}

void PackedMatrix::pack(int64_t input, int64_t output, const WeightBlock& block) {
  check_inside(block, input, output, inputs_, outputs_);
  PLEAT_ASSERT(!is_low_bit(format_), name_of(format_), " weights are packed by row");
  const auto elements = [&](int64_t k, int64_t inputs, int64_t n, int64_t outputs) {
    if (inputs > 0 && outputs > 0) pack_elements(input + k, output + n, part_of(block, k, inputs, n, outputs));
  };
  // Of the outputs those in whole panels: [begin_panels, end_panels).
  const int64_t begin_panels = std::min((kColumnBlock - output % kColumnBlock) % kColumnBlock, block.outputs);
  const int64_t end_panels = block.outputs - (block.outputs - begin_panels) % kColumnBlock;
  const int64_t per_word = 4 / weight_bytes(format_);
  for (size_t leaf = 0; leaf + 1 < leaf_offsets_.size(); ++leaf) {
    // Of this leaf's inputs those in the block, [first, last), and of them those in whole words, [begin, end).
    const int64_t first = std::max(leaf_offsets_[leaf] - input, int64_t(0));
    const int64_t last = std::min(leaf_offsets_[leaf + 1] - input, block.inputs);
    if (first >= last) continue;
    const int64_t at = padded_offsets_[leaf] + input + first - leaf_offsets_[leaf];
    const int64_t begin = std::min(first + at % per_word, last), end = last - (last - begin) % per_word;
    elements(first, begin - first, 0, block.outputs);
    elements(end, last - end, 0, block.outputs);
    elements(begin, end - begin, 0, begin_panels);
    elements(begin, end - begin, end_panels, block.outputs - end_panels);
    for (int64_t n = begin_panels; n < end_panels; n += kColumnBlock)
      pack_panel(at + begin - first, output + n, part_of(block, begin, end - begin, n, kColumnBlock));
  }
}

}  // namespace pleat
