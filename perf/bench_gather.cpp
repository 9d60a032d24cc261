// The gather of a folded model's exact neurons (one row: batch 1): their up and down rows, the down rows alone, and the
// rate at which the up rows are only read, which is what runs of this length let memory give. A random tenth of the
// neurons of layers that together are larger than any cache.
#include <algorithm>
#include <atomic>
#include <memory>
#include <random>
#include <vector>

#include "bench_kernels.h"
#include "kernels/neuron_rows.h"
#include "kernels/vector_ops.h"

namespace pleat {
namespace {

constexpr int64_t kWidth = 4096, kNeurons = 11008;
constexpr double kShare = 0.1;

NeuronRows make_rows(WeightFormat format) {
  NeuronRows out(format, kNeurons, kWidth);
  if (is_low_bit(format)) {
    std::vector<uint8_t> codes(size_t(kWidth * bits_of(format) / 8));
    for (size_t i = 0; i < codes.size(); ++i) codes[i] = uint8_t(i * 2654435761u >> 20);
    const std::vector<bf16> scale(size_t(kWidth / kGroup), to_bf16(0.001f));
    for (int64_t n = 0; n < kNeurons; ++n)
      out.pack_low_bit(n, 1, codes.data(), scale.data(), format == WeightFormat::int8 ? nullptr : scale.data());
  } else {
    const std::vector<bf16> values(size_t(kWidth), to_bf16(0.01f));
    for (int64_t n = 0; n < kNeurons; ++n) out.pack(n, 0, {values.data(), DType::bf16, 1, kWidth, kWidth, 1});
  }
  return out;
}

void select(Selection& selection, std::mt19937& generator) {
  std::bernoulli_distribution chosen(kShare);
  selection.clear();
  int32_t count = 0;
  for (size_t leaf = 0; leaf + 1 < selection.leaf_offsets.size(); ++leaf) {
    for (int64_t n = selection.leaf_offsets[leaf]; n < selection.leaf_offsets[leaf + 1]; ++n)
      if (chosen(generator)) selection.neuron[size_t(count)] = int32_t(n), selection.rows[size_t(count++)] = 1;
    selection.leaf_begin[leaf + 1] = count;
  }
}

struct Layer {
  Layer(NeuronRows up_rows, NeuronRows down_rows) : up(std::move(up_rows)), down(std::move(down_rows)) {}
  NeuronRows up, down;
};

// Reads the selected rows, each fetched one row ahead.
void read_rows(Context& ctx, const NeuronRows& rows, const Selection& selection) {
  std::atomic<float> kept{0};  // so that no load can be dropped
  ctx.team().split(selection.count(), [&](int, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const std::byte* const next = rows.row(selection.neuron[size_t(std::min(i + 1, end - 1))]);
      for (int64_t at = 0; at < rows.row_bytes(); at += 64) __builtin_prefetch(next + at);
      kept.store(vector_ops(ctx.isa()).stream_sum(reinterpret_cast<const float*>(rows.row(selection.neuron[size_t(i)])),
                                                  rows.row_bytes() / 256 * 64),
                 std::memory_order_relaxed);
    }
  });
}

// The layers of the format measured last, and who is gathered of them.
struct Subject {
  WeightFormat format;
  std::vector<Layer> layers;
  std::vector<Selection> selections;
  double bytes = 0;  // of the selected up rows, or of the down rows
};

const Subject& subject_of(WeightFormat format) {
  static std::unique_ptr<Subject> held;
  if (held && held->format == format) return *held;
  held.reset();
  held = std::make_unique<Subject>();
  held->format = format;
  for (size_t bytes = 0; bytes < machine().memory.bytes();) {
    Layer& layer = held->layers.emplace_back(make_rows(format), make_rows(format));
    NeuronRows* const together[] = {&layer.up, &layer.down};
    lay_side_by_side(together);
    bytes += held->layers.back().up.bytes() + held->layers.back().down.bytes();
  }
  std::vector<int64_t> offsets;
  for (int leaf = 0; leaf <= 32; ++leaf) offsets.push_back(kNeurons * leaf / 32);
  held->selections.assign(held->layers.size(), Selection(offsets));
  std::mt19937 generator(1);
  for (Selection& selection : held->selections) {
    select(selection, generator);
    held->bytes += double(selection.count() * held->layers[0].up.row_bytes());
  }
  return *held;
}

void up_and_down(benchmark::State& state, WeightFormat format) {
  const Subject& subject = subject_of(format);
  const std::vector<float> x(size_t(kWidth), 0.5f), line(size_t(kNeurons), 0.1f);
  const Buffer leaves(size_t(32 * kWidth) * sizeof(float));  // aligned: stores across cache lines cost twice as much
  measure_reads(state, 2 * subject.bytes, [&] {
    for (size_t i = 0; i < subject.layers.size(); ++i)
      fix_up(machine().context, {x.data(), 1, kWidth}, subject.layers[i].up, subject.layers[i].down,
             {nullptr, line.data(), line.data()}, Activation::relu, subject.selections[i], leaves.as<float>());
  });
}

void down_alone(benchmark::State& state, WeightFormat format) {
  const Subject& subject = subject_of(format);
  const std::vector<float> activations(size_t(kNeurons), 0.5f);
  const Buffer leaves(size_t(32 * kWidth) * sizeof(float));
  measure_reads(state, subject.bytes, [&] {
    for (size_t i = 0; i < subject.layers.size(); ++i)
      add_known(machine().context, {activations.data(), 1, kNeurons}, subject.layers[i].down, subject.selections[i],
                leaves.as<float>());
  });
}

void only_read(benchmark::State& state, WeightFormat format) {
  const Subject& subject = subject_of(format);
  measure_reads(state, subject.bytes, [&] {
    for (size_t i = 0; i < subject.layers.size(); ++i)
      read_rows(machine().context, subject.layers[i].up, subject.selections[i]);
  });
}

}  // namespace

void register_gathers() {
  for (WeightFormat format : {WeightFormat::bf16, WeightFormat::int8, WeightFormat::int4, WeightFormat::int3}) {
    const std::string name = "gather/" + std::string(name_of(format));
    add_benchmark(name + "/up and down", 12, [format](benchmark::State& state) { up_and_down(state, format); });
    add_benchmark(name + "/down", 12, [format](benchmark::State& state) { down_alone(state, format); });
    add_benchmark(name + "/only read", 12, [format](benchmark::State& state) { only_read(state, format); });
  }
}

}  // namespace pleat
