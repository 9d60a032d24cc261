#pragma once
// Reads the slices of a checkpoint that one rank packs, strip by strip, so that staging memory stays small.
#include <algorithm>
#include <functional>
#include <vector>

#include "core/checkpoint/checkpoint.h"
#include "core/model/blueprint.h"
#include "kernels/check.h"
#include "kernels/low_bit.h"
#include "kernels/neuron_rows.h"
#include "kernels/planes.h"
#include "kernels/tensor.h"
#include "parallel/shard_plan.h"

namespace pleat {

class WeightLoader {
 public:
  // alive() is called now and then while something is read.
  WeightLoader(const Checkpoint& checkpoint, const std::function<void()>& alive)
      : checkpoint_(checkpoint), alive_(alive) {}

  // Calls sink(input, output, block) for strips of the linear map `source` [inputs, outputs]; input counts from the
  // beginning of its range, output from `to`. total_inputs x total_outputs is the tensor's expected shape.
  template <class Sink>
  void matrix(const WeightSource& source, int64_t total_inputs, int64_t total_outputs, Range inputs, Range outputs,
              int64_t to, Sink&& sink) {
    const TensorInfo& info = source.input_major ? checkpoint_.require(source.weight, {total_inputs, total_outputs})
                                                : checkpoint_.require(source.weight, {total_outputs, total_inputs});
    const Range rows = source.input_major ? inputs : outputs;
    const Range cols = source.input_major ? outputs : inputs;
    strips(source.weight, info.dtype, rows, cols, source.input_major ? 0 : to, [&](int64_t row, int64_t count) {
      const WeightBlock block = source.input_major
                                    ? WeightBlock{staging_.data(), info.dtype, count, cols.size(), cols.size(), 1}
                                    : WeightBlock{staging_.data(), info.dtype, cols.size(), count, 1, cols.size()};
      source.input_major ? sink(row - rows.begin, to, block) : sink(int64_t(0), to + row - rows.begin, block);
    });
  }

  // Outputs `outputs` and inputs `inputs` (from a multiple of kGroup on) of a low-bit matrix [total_inputs,
  // total_outputs], `name`.codes, .scale and .minimum (kernels/low_bit.h), to outputs from `to` on. Matrix: a
  // LowBitMatrix, or NeuronRows whose neurons are the outputs.
  template <class Matrix>
  void low_bit(const std::string& name, int64_t total_inputs, int64_t total_outputs, Range inputs, Range outputs,
               int64_t to, Matrix& matrix) {
    load_protected(name, total_inputs, total_outputs, inputs, outputs, to, matrix);
    codes(name, total_inputs, total_outputs, inputs, outputs, to, matrix);
  }

  // Of a low-bit matrix; 0 of others. Its list is checked where the matrix is loaded.
  int64_t protected_count(const std::string& name) const {
    const TensorInfo* const info = checkpoint_.find(name + ".protected");
    return info != nullptr && info->shape.size() == 1 ? info->shape[0] : 0;
  }

  // Inputs `inputs` and outputs `outputs` (from a multiple of kGroup on) of a matrix [total_inputs, total_outputs] that
  // stands by input, as down and what is cut by inputs do (core/model/fold_spec.h).
  void low_bit_by_input(const std::string& name, int64_t total_inputs, int64_t total_outputs, Range inputs,
                        Range outputs, NeuronRows& matrix) {
    const std::vector<int32_t> all = listed(name + ".protected", total_inputs);
    const auto begin = std::lower_bound(all.begin(), all.end(), inputs.begin),
               end = std::lower_bound(all.begin(), all.end(), inputs.end);
    std::vector<int32_t> mine;
    for (auto it = begin; it != end; ++it) mine.push_back(int32_t(*it - inputs.begin));
    matrix.protect_neurons(mine);
    if (!mine.empty())
      rows<bf16>(name + ".protected_weights", DType::bf16, {int64_t(all.size()), total_outputs},
                 {begin - all.begin(), end - all.begin()}, outputs, [&](int64_t row, const bf16* data, int64_t count) {
                   for (int64_t i = 0; i < count; ++i) matrix.pack_protected_neuron(row + i, data + i * outputs.size());
                 });
    codes(name, total_outputs, total_inputs, outputs, inputs, 0, matrix);
  }

  // The same of a matrix of planes, `name`.codes, .column_scales or .block_scales, and .exponents (kernels/planes.h).
  // Scales are shared by groups of outputs: those of every group that `outputs` touches are read.
  void planes(const std::string& name, int64_t total_inputs, int64_t total_outputs, Range inputs, Range outputs,
              int64_t to, PlanesMatrix& matrix) {
    if (outputs.size() == 0) return;
    const int planes = matrix.planes();
    const auto up = [](int64_t count, int64_t size) { return (count + size - 1) / size; };
    const auto touched = [&](int64_t size) { return Range{outputs.begin / size, up(outputs.end, size)}; };
    const bool by_column = checkpoint_.find(name + ".column_scales") != nullptr;
    const int64_t side = by_column ? kPlaneOutputs : kPlaneBlock, table = by_column ? 1 : kPlaneBlock;
    std::vector<uint8_t> scales;
    std::vector<int8_t> exponents;
    rows<uint8_t>(name + (by_column ? ".column_scales" : ".block_scales"), DType::u8,
                  {up(total_outputs, side), up(total_inputs, table) * planes}, touched(side),
                  {inputs.begin / table * planes, up(inputs.end, table) * planes},
                  [&](int64_t, const uint8_t* data, int64_t count) {
                    scales.insert(scales.end(), data, data + count * up(inputs.size(), table) * planes);
                  });
    rows<int8_t>(name + ".exponents", DType::i8, {up(total_outputs, kPlaneOutputs), up(total_inputs, kGroup)},
                 touched(kPlaneOutputs), {inputs.begin / kGroup, up(inputs.end, kGroup)},
                 [&](int64_t, const int8_t* data, int64_t count) {
                   exponents.insert(exponents.end(), data, data + count * up(inputs.size(), kGroup));
                 });
    with_context(concat("tensor '", name, "'"), [&] {
      matrix.add(to, outputs.begin, outputs.size(), by_column ? PlaneScales::column : PlaneScales::block, scales.data(),
                 exponents.data());
    });
    load_protected(name, total_inputs, total_outputs, inputs, outputs, to, matrix);
    rows<uint8_t>(name + ".codes", DType::u8, {total_outputs, up(total_inputs * planes, 8)}, outputs,
                  {inputs.begin * planes / 8, up(inputs.end * planes, 8)},
                  [&](int64_t row, const uint8_t* codes, int64_t count) { matrix.pack(to + row, count, codes); });
  }

  // Elements [range) of a one-dimensional tensor of `total` elements, as f32.
  std::vector<float> vector(const std::string& name, int64_t total, Range range) {
    checkpoint_.require(name, {total});
    std::vector<float> all = checkpoint_.read_f32(name);
    return {all.begin() + range.begin, all.begin() + range.end};
  }

  const Checkpoint& checkpoint() const { return checkpoint_; }

 private:
  static int bits_in(const LowBitMatrix& matrix) { return matrix.bits(); }
  static int bits_in(const NeuronRows& rows) { return bits_of(rows.format()); }
  static bool planes_in(const LowBitMatrix&) { return false; }
  static bool planes_in(const NeuronRows& rows) { return has_planes(rows.format()); }
  static void pack_codes(LowBitMatrix& matrix, int64_t at, int64_t count, const uint8_t* codes, const bf16* scale,
                         const bf16* minimum, const uint8_t*) {
    matrix.pack(at, count, codes, scale, minimum);
  }
  static void pack_codes(NeuronRows& rows, int64_t at, int64_t count, const uint8_t* codes, const bf16* scale,
                         const bf16* minimum, const uint8_t* plane_scales) {
    rows.pack_low_bit(at, count, codes, scale, minimum, plane_scales);
  }

  template <class Matrix>
  void codes(const std::string& name, int64_t total_inputs, int64_t total_outputs, Range inputs, Range outputs,
             int64_t to, Matrix& matrix) {
    const int bits = bits_in(matrix);
    const auto bytes = [&](int64_t count) { return (count * bits + 7) / 8; };
    const auto groups = [](int64_t count) { return (count + kGroup - 1) / kGroup; };
    const Range mine{inputs.begin / kGroup, groups(inputs.end)};
    std::vector<bf16> scale(size_t(outputs.size() * mine.size())), minimum(bits < 8 ? scale.size() : 0);
    const auto numbers = [&](const std::string& tensor, std::vector<bf16>& all) {
      rows<bf16>(tensor, DType::bf16, {total_outputs, groups(total_inputs)}, outputs, mine,
                 [&](int64_t row, const bf16* data, int64_t count) {
                   std::copy(data, data + count * mine.size(), all.begin() + row * mine.size());
                 });
    };
    numbers(name + ".scale", scale);
    if (bits < 8) numbers(name + ".minimum", minimum);
    std::vector<uint8_t> plane_scales;
    if (planes_in(matrix))
      rows<uint8_t>(name + ".row_scales", DType::u8, {total_outputs, groups(total_inputs) * bits}, outputs,
                    {mine.begin * bits, mine.end * bits}, [&](int64_t, const uint8_t* data, int64_t count) {
                      plane_scales.insert(plane_scales.end(), data, data + count * mine.size() * bits);
                    });
    rows<uint8_t>(name + ".codes", DType::u8, {total_outputs, bytes(total_inputs)}, outputs,
                  {bytes(inputs.begin), bytes(inputs.end)}, [&](int64_t row, const uint8_t* codes, int64_t count) {
                    const size_t at = size_t(row * mine.size());
                    pack_codes(matrix, to + row, count, codes, &scale[at], bits < 8 ? &minimum[at] : nullptr,
                               plane_scales.empty() ? nullptr : &plane_scales[at * size_t(bits)]);
                  });
  }

  // Calls sink(row, data, count) for strips of a tensor of element type T and exactly this shape.
  template <class T, class Sink>
  void rows(const std::string& name, DType dtype, const std::vector<int64_t>& shape, Range rows, Range cols,
            Sink&& sink) {
    const TensorInfo& info = checkpoint_.require(name, shape);
    PLEAT_REQUIRE(info.dtype == dtype, "tensor '", name, "' is ", name_of(info.dtype), ", expected ", name_of(dtype));
    strips(name, dtype, rows, cols, 0, [&](int64_t row, int64_t count) {
      sink(row - rows.begin, reinterpret_cast<const T*>(staging_.data()), count);
    });
  }

  // An ascending list of numbers below `limit`; empty where there is no such tensor.
  std::vector<int32_t> listed(const std::string& name, int64_t limit) {
    std::vector<int32_t> all;
    const TensorInfo* info = checkpoint_.find(name);
    if (info == nullptr) return all;
    PLEAT_REQUIRE(info->dtype == DType::i32 && info->shape.size() == 1 && info->shape[0] <= limit, "tensor '", name,
                  "' is not a list in I32");
    all.resize(size_t(info->shape[0]));
    checkpoint_.read(name, 0, 1, 0, info->shape[0], all.data());
    for (size_t i = 0; i < all.size(); ++i)
      PLEAT_REQUIRE(all[i] >= 0 && all[i] < limit && (i == 0 || all[i] > all[i - 1]), "tensor '", name,
                    "' does not list numbers below ", limit, " in ascending order");
    return all;
  }

  // The protected inputs of a low-bit matrix that are among `inputs`. Matrices packed into one have the same.
  template <class Matrix>
  void load_protected(const std::string& name, int64_t total_inputs, int64_t total_outputs, Range inputs, Range outputs,
                      int64_t to, Matrix& matrix) {
    const std::vector<int32_t> all = listed(name + ".protected", total_inputs);
    std::vector<int32_t> mine;
    const auto begin = std::lower_bound(all.begin(), all.end(), inputs.begin),
               end = std::lower_bound(all.begin(), all.end(), inputs.end);
    for (auto it = begin; it != end; ++it) mine.push_back(int32_t(*it - inputs.begin));
    if (to == 0 && matrix.protected_inputs().empty()) matrix.protect(mine);
    PLEAT_REQUIRE(matrix.protected_inputs() == mine, "'", name,
                  "' and the matrices beside it protect different inputs");
    if (mine.empty()) return;
    rows<bf16>(name + ".protected_weights", DType::bf16, {total_outputs, int64_t(all.size())}, outputs,
               {begin - all.begin(), end - all.begin()}, [&](int64_t row, const bf16* data, int64_t count) {
                 matrix.pack_protected(to + row, count, data, int64_t(mine.size()));
               });
  }

  // Calls strip(row, count) with `count` rows in staging memory: as many as stay in a core's cache, and whole panels of
  // kColumnBlock rows where the first is row `to` of a packed matrix.
  template <class Strip>
  void strips(const std::string& name, DType dtype, Range rows, Range cols, int64_t to, Strip&& strip) {
    constexpr int64_t kStagingBytes = 256 << 10;
    const int64_t row_bytes = std::max<int64_t>(1, cols.size() * int64_t(size_of(dtype)));
    const int64_t step = (kStagingBytes / row_bytes + kColumnBlock - 1) / kColumnBlock * kColumnBlock;
    for (int64_t row = rows.begin, count = 0; row < rows.end && cols.size() > 0; row += count) {
      count = std::min(step - (to + row - rows.begin) % kColumnBlock, rows.end - row);
      alive_();
      staging_.resize(std::max(staging_.size(), size_t(count * row_bytes + 63) / 64));
      checkpoint_.read(name, row, row + count, cols.begin, cols.end, staging_.data());
      strip(row, count);
    }
  }

  const Checkpoint& checkpoint_;
  const std::function<void()>& alive_;
  struct alignas(64) CacheLine {
    std::byte bytes[64];
  };
  std::vector<CacheLine> staging_;
};

}  // namespace pleat
