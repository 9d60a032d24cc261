// The gather of a folded model's exact neurons (one row: batch 1) beside what the machine can do: GB/s of gathered up
// and down rows and percent of the read bandwidth measured in the same round. A random tenth of the neurons of layers
// that together are larger than any cache, another one each round. Beside it the rate at which the same up rows are
// only read: what runs of this length let memory give.
//   bench_gather [threads]
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "kernels/neuron_rows.h"
#include "kernels/stream_read.h"
#include "kernels/vector_ops.h"
#include "measure.h"

namespace pleat {
namespace {

constexpr int64_t kWidth = 4096, kNeurons = 11008;
constexpr double kShare = 0.1;
constexpr int kRounds = 12;

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

void report(Context& ctx, const Buffer& memory, const char* name, WeightFormat format) {
  std::vector<Layer> layers;
  for (size_t bytes = 0; bytes < memory.bytes(); bytes += layers.back().up.bytes() + layers.back().down.bytes())
    layers.push_back({make_rows(format), make_rows(format)});
  std::vector<int64_t> offsets;
  for (int leaf = 0; leaf <= 32; ++leaf) offsets.push_back(kNeurons * leaf / 32);
  const std::vector<float> x(size_t(kWidth), 0.5f), line(size_t(kNeurons), 0.1f);
  const Buffer leaves(size_t(32 * kWidth) * sizeof(float));  // aligned: stores across cache lines cost twice as much
  const std::vector<float> activations(size_t(kNeurons), 0.5f);
  std::mt19937 generator(1);
  std::vector<Selection> selections;
  std::vector<double> both, downs, onlys, reads;
  for (int round = 0; round < kRounds; ++round) {
    selections.assign(layers.size(), Selection(offsets));
    double bytes = 0;
    for (Selection& selection : selections) {
      select(selection, generator);
      bytes += double(selection.count() * layers[0].up.row_bytes());
    }
    reads.push_back(stream_read(ctx, memory) / 1e9);
    double start = seconds();
    for (size_t i = 0; i < layers.size(); ++i)
      fix_up(ctx, {x.data(), 1, kWidth}, layers[i].up, layers[i].down, {nullptr, line.data(), line.data()},
             Activation::relu, selections[i], leaves.as<float>());
    both.push_back(2 * bytes / (seconds() - start) / 1e9);
    start = seconds();
    for (size_t i = 0; i < layers.size(); ++i)
      add_known(ctx, {activations.data(), 1, kNeurons}, layers[i].down, selections[i], leaves.as<float>());
    downs.push_back(bytes / (seconds() - start) / 1e9);
    start = seconds();
    for (size_t i = 0; i < layers.size(); ++i) read_rows(ctx, layers[i].up, selections[i]);
    onlys.push_back(bytes / (seconds() - start) / 1e9);
  }
  const double read = median(reads);
  const auto share = [&](const std::vector<double>& rates) { return 100 * median(rates) / read; };
  std::printf(
      "%-5s up and down %5.1f GB/s, %3.0f%%   down alone %3.0f%%   only read %3.0f%%   of the %.1f GB/s read "
      "bandwidth\n",
      name, median(both), share(both), share(downs), share(onlys), read);
  std::fflush(stdout);
}

}  // namespace
}  // namespace pleat

int main(int argc, char** argv) {
  using namespace pleat;
  const int threads = argc > 1 ? std::atoi(argv[1]) : int(std::thread::hardware_concurrency());
  Context ctx(threads, false);
  Buffer memory(size_t(1024) << 20);
  std::memset(memory.as<void>(), 0, memory.bytes());
  std::printf("%ld neurons of %ld, %.0f%% gathered, %s, %d threads\n", long(kNeurons), long(kWidth), 100 * kShare,
              name_of(ctx.isa()), threads);
  report(ctx, memory, "bf16", WeightFormat::bf16);
  report(ctx, memory, "int8", WeightFormat::int8);
  report(ctx, memory, "int4", WeightFormat::int4);
  report(ctx, memory, "int3", WeightFormat::int3);
}
