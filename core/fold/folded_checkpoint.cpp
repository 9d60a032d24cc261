#include "core/fold/folded_checkpoint.h"

#include <cstring>
#include <map>

#include "core/fold/checkpoint_copy.h"
#include "kernels/check.h"

namespace pleat {
namespace {

namespace fs = std::filesystem;

// How a dense tensor changes: its neurons, along rows or columns from `begin` on, take a new order.
struct Reordering {
  const std::vector<int32_t>* order = nullptr;
  bool rows = false;
  int64_t begin = 0;
};

std::map<std::string, Reordering> reorderings(const Blueprint& blueprint,
                                              const std::vector<FoldedLayerTensors>& layers) {
  std::map<std::string, Reordering> out;
  for (int layer = 0; layer < blueprint.layers; ++layer) {
    const std::vector<int32_t>* order = &layers[size_t(layer)].order;
    const WeightSource up = blueprint.source(Part::ffn_up, layer), down = blueprint.source(Part::ffn_down, layer);
    if (blueprint.gated) {
      const WeightSource gate = blueprint.source(Part::ffn_gate, layer);
      out[gate.weight] = {order, !gate.input_major, gate.output_begin};
      if (!gate.bias.empty()) out[gate.bias] = {order, false, gate.output_begin};
    }
    out[up.weight] = {order, !up.input_major, up.output_begin};
    if (!up.bias.empty()) out[up.bias] = {order, false, up.output_begin};
    out[down.weight] = {order, down.input_major, 0};
  }
  return out;
}

// A 1-D tensor is one row.
std::vector<std::byte> read_reordered(const Checkpoint& checkpoint, const std::string& name,
                                      const Reordering& reordering) {
  const TensorInfo& info = checkpoint.require(name);
  const int64_t rows = info.shape.size() < 2 ? 1 : info.shape[0];
  int64_t cols = 1;
  for (size_t i = info.shape.size() < 2 ? 0 : 1; i < info.shape.size(); ++i) cols *= info.shape[i];
  const size_t size = size_of(info.dtype);
  std::vector<std::byte> data(size_t(rows * cols) * size);
  checkpoint.read(name, 0, rows, 0, cols, data.data());
  if (reordering.order == nullptr) return data;
  std::vector<std::byte> out = data;
  const std::vector<int32_t>& order = *reordering.order;
  const size_t row_bytes = size_t(cols) * size;
  for (size_t place = 0; place < order.size(); ++place) {
    const size_t to = size_t(reordering.begin) + place, from = size_t(reordering.begin + order[place]);
    if (reordering.rows) {
      std::memcpy(&out[to * row_bytes], &data[from * row_bytes], row_bytes);
      continue;
    }
    for (size_t row = 0; row < size_t(rows); ++row) {
      std::memcpy(&out[row * row_bytes + to * size], &data[row * row_bytes + from * size], size);
    }
  }
  return out;
}

std::vector<NewTensor> tensors_of(int layer, const LayerFold& fold) {
  const int64_t d = int64_t(fold.bias.size()), h = int64_t(fold.slope.size()), groups = (d + kGroup - 1) / kGroup;
  std::vector<NewTensor> out;
  const auto add = [&](const char* name, DType dtype, std::vector<int64_t> shape, const void* data) {
    out.push_back({FoldSpec::name(layer, name), dtype, std::move(shape), data});
  };
  if (fold.fold.format == WeightFormat::int8) {
    add("fold.codes", DType::u8, {d, d}, fold.fold.rows.codes.data());
    add("fold.scale", DType::bf16, {d, groups}, fold.fold.rows.scale.data());
  } else {
    add("fold.weight", DType::bf16, {d, d}, fold.fold.weight.data());
  }
  add("fold.bias", DType::f32, {d}, fold.bias.data());
  add("slope", DType::f32, {h}, fold.slope.data());
  add("intercept", DType::f32, {h}, fold.intercept.data());
  const auto add_predictor = [&](const std::string& name, const LowBitRows& predictor) {
    if (predictor.rows == 0) return;
    add((name + ".codes").c_str(), DType::u8, {h, predictor.code_bytes()}, predictor.codes.data());
    add((name + ".scale").c_str(), DType::bf16, {h, groups}, predictor.scale.data());
    add((name + ".minimum").c_str(), DType::bf16, {h, groups}, predictor.minimum.data());
  };
  add_predictor("predictor", fold.predictor);
  add_predictor("gate_predictor", fold.gate_predictor);
  if (!fold.factor.empty()) {
    add("gate_slope", DType::f32, {h}, fold.gate_slope.data());
    add("factor", DType::f32, {h}, fold.factor.data());
    add("threshold", DType::f32, {1}, &fold.threshold);
    return out;
  }
  add("range.low", DType::f32, {h}, fold.low.data());
  add("range.high", DType::f32, {h}, fold.high.data());
  return out;
}

}  // namespace

void write_folded_checkpoint(const Checkpoint& dense, const Blueprint& blueprint, const FoldSpec& spec,
                             const std::vector<FoldedLayerTensors>& layers, const fs::path& folder) {
  PLEAT_ASSERT(int(layers.size()) == blueprint.layers);
  std::map<std::string, Reordering> changes = reorderings(blueprint, layers);
  std::vector<NewTensor> added;
  for (int layer = 0; layer < blueprint.layers; ++layer) {
    for (NewTensor& tensor : tensors_of(layer, layers[size_t(layer)].fold)) added.push_back(std::move(tensor));
  }
  copy_checkpoint(
      dense, folder, {"fold", to_metadata(spec)}, dense.names(),
      [&](const std::string& name) { return read_reordered(dense, name, changes[name]); }, added);
}

}  // namespace pleat
