#include "core/fold/folded_checkpoint.h"

#include <cstring>
#include <list>
#include <map>
#include <set>

#include "core/fold/checkpoint_copy.h"
#include "kernels/check.h"

namespace pleat {
namespace {

namespace fs = std::filesystem;

// How a dense tensor changes: its neurons, along rows or columns from `begin` on, take a new order, or are some of
// those that were.
struct Reordering {
  const std::vector<int32_t>* order = nullptr;
  bool rows = false;
  int64_t begin = 0;
};
using Reorderings = std::map<std::string, Reordering>;

struct Content {
  std::vector<int64_t> shape;
  std::vector<std::byte> data;
};

// A 1-D tensor is one row.
Content read_reordered(const Checkpoint& checkpoint, const std::string& name, const Reordering& reordering,
                       int64_t neurons) {
  const TensorInfo& info = checkpoint.require(name);
  const int64_t rows = info.shape.size() < 2 ? 1 : info.shape[0];
  int64_t cols = 1;
  for (size_t i = info.shape.size() < 2 ? 0 : 1; i < info.shape.size(); ++i) cols *= info.shape[i];
  const int64_t size = int64_t(size_of(info.dtype));
  Content out{info.shape, std::vector<std::byte>(size_t(rows * cols * size))};
  checkpoint.read(name, 0, rows, 0, cols, out.data.data());
  if (reordering.order == nullptr) return out;
  const std::vector<std::byte> data = out.data;
  const std::vector<int32_t>& order = *reordering.order;
  const int64_t kept = int64_t(order.size());
  PLEAT_REQUIRE(kept == neurons || (reordering.rows ? rows : cols) == neurons, "tensor '", name,
                "' holds more than one part: neurons cannot be left out of it");
  const int64_t new_cols = reordering.rows ? cols : cols - neurons + kept;
  const int64_t new_rows = reordering.rows ? rows - neurons + kept : rows;
  out.data.resize(size_t(new_rows * new_cols * size));
  if (out.shape.size() < 2) out.shape = {new_cols};
  if (out.shape.size() == 2) out.shape = {new_rows, new_cols};
  const auto copy = [&](int64_t to_row, int64_t to_col, int64_t row, int64_t col, int64_t count) {
    std::memcpy(&out.data[size_t((to_row * new_cols + to_col) * size)], &data[size_t((row * cols + col) * size)],
                size_t(count * size));
  };
  for (int64_t place = 0; place < kept; ++place) {
    const int64_t to = reordering.begin + place, from = reordering.begin + order[size_t(place)];
    if (reordering.rows) {
      copy(to, 0, from, 0, cols);
      continue;
    }
    for (int64_t row = 0; row < rows; ++row) copy(row, to, row, from, 1);
  }
  return out;
}

// Everything that becomes of one model.
class Writing {
 public:
  Writing(const Checkpoint& dense, const Blueprint& blueprint, const std::vector<BuiltLayer>& layers)
      : dense_(dense), blueprint_(blueprint), layers_(layers) {
    for (int layer = 0; layer < blueprint.layers; ++layer) add_layer(layer);
  }

  void write(double reduction, const fs::path& folder, const std::function<void(double)>& done) {
    FoldSpec spec{{}, reduction};
    for (const BuiltLayer& layer : layers_) spec.layers.push_back(layer.fold.spec);
    std::map<std::string, std::string> metadata = {{"fold", to_metadata(spec)}};
    if (!formats_.empty()) metadata["quantised"] = to_metadata(formats_);
    std::vector<std::string> kept;
    for (const std::string& name : dense_.names())
      if (!replaced_.contains(name)) kept.push_back(name);
    size_t copied = 0;
    const auto read = [&](const std::string& name) {
      if (done) done(double(copied++) / double(kept.size()));
      return read_reordered(dense_, name, changes_[name], blueprint_.neurons).data;
    };
    copy_checkpoint(dense_, folder, metadata, kept, read, added_);
  }

 private:
  void add(const std::string& name, DType dtype, std::vector<int64_t> shape, const void* data) {
    added_.push_back({name, dtype, std::move(shape), data});
  }

  // A matrix of the FFN, in low bits or with its neurons reordered.
  void add_matrix(int layer, Part part, WeightFormat format, const QuantisedWeights& weights) {
    const WeightSource source = blueprint_.source(part, layer);
    const bool neurons_are_rows = (part == Part::ffn_down) == source.input_major;
    if (is_low_bit(format)) {
      PLEAT_REQUIRE(source.output_begin == 0, "tensor '", source.weight, "' holds several matrices: it stays in bf16");
      replaced_.insert(source.weight);
      formats_[source.weight] = format;
      append_tensors(source.weight, weights, added_);
    } else {
      reorder(layer, source.weight, {nullptr, neurons_are_rows, part == Part::ffn_down ? 0 : source.output_begin});
    }
    if (part != Part::ffn_down && !source.bias.empty())
      reorder(layer, source.bias, {nullptr, false, source.output_begin});
  }

  void reorder(int layer, const std::string& name, Reordering reordering) {
    const std::vector<int32_t>& order = layers_[size_t(layer)].neurons;
    reordering.order = &order;
    if (int64_t(order.size()) == blueprint_.neurons) {
      changes_[name] = reordering;
      return;
    }
    const Content& content = contents_.emplace_back(read_reordered(dense_, name, reordering, blueprint_.neurons));
    replaced_.insert(name);
    add(name, dense_.require(name).dtype, content.shape, content.data.data());
  }

  void add_layer(int layer) {
    const BuiltLayer& built = layers_[size_t(layer)];
    const FfnFormats& formats = built.weights.formats;
    if (blueprint_.gated) add_matrix(layer, Part::ffn_gate, formats.gate, built.weights.gate);
    add_matrix(layer, Part::ffn_up, formats.up, built.weights.up);
    add_matrix(layer, Part::ffn_down, formats.down, built.weights.down);
    if (built.fold.spec.selection != SelectionKind::all || built.fold.spec.cuts_inputs) add_fold(layer, built.fold);
  }

  void add_fold(int layer, const LayerFold& fold) {
    const int64_t d = blueprint_.hidden;
    const auto name = [&](const char* tensor) { return FoldSpec::name(layer, tensor); };
    if (fold.spec.lines && fold.fold.format == WeightFormat::int8)
      append_tensors(name("fold"), fold.fold.rows, added_);
    else if (fold.spec.lines)
      add(name("fold.weight"), DType::bf16, {d, d}, fold.fold.weight.data());
    const auto numbers = [&](const char* tensor, const std::vector<float>& values) {
      if (!values.empty()) add(name(tensor), DType::f32, {int64_t(values.size())}, values.data());
    };
    numbers("fold.bias", fold.bias);
    numbers("slope", fold.slope);
    numbers("intercept", fold.intercept);
    numbers("gate_slope", fold.gate_slope);
    numbers("range.low", fold.low);
    numbers("range.high", fold.high);
    numbers("center", fold.center);
    numbers("factor", fold.factor);
    if (fold.predictor.rows > 0) append_tensors(name("predictor"), fold.predictor, added_);
    if (fold.gate_predictor.rows > 0) append_tensors(name("gate_predictor"), fold.gate_predictor, added_);
    const bool by_score = fold.spec.selection == SelectionKind::gate ||
                          fold.spec.selection == SelectionKind::predictor ||
                          fold.spec.selection == SelectionKind::threshold;
    if (by_score) add(name("threshold"), DType::f32, {1}, &fold.threshold);
    if (fold.spec.cuts_inputs) add(name("input_threshold"), DType::f32, {1}, &fold.input_threshold);
  }

  const Checkpoint& dense_;
  const Blueprint& blueprint_;
  const std::vector<BuiltLayer>& layers_;
  Reorderings changes_;
  std::set<std::string> replaced_;
  QuantisedTensors formats_;
  std::list<Content> contents_;  // of what is added
  std::vector<NewTensor> added_;
};

}  // namespace

void write_folded_checkpoint(const Checkpoint& dense, const Blueprint& blueprint, double reduction,
                             const std::vector<BuiltLayer>& layers, const fs::path& folder,
                             const std::function<void(double)>& done) {
  PLEAT_ASSERT(int(layers.size()) == blueprint.layers);
  Writing(dense, blueprint, layers).write(reduction, folder, done);
}

}  // namespace pleat
