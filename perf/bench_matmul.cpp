// Products with packed weights beside what the machine can do: GB/s of weights and percent of the read bandwidth
// measured in the same round (decode), GFLOP/s (prefill). Weights rotate over more memory than any cache holds.
//   bench_matmul [threads [word that a case's name has]]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "kernels/matmul.h"
#include "kernels/stream_read.h"
#include "kernels/vector_ops.h"
#include "measure.h"

namespace pleat {
namespace {

constexpr size_t kSetBytes = size_t(1536) << 20;

// Multiplications and additions a second by dot products of bytes, measured on the 8-bit kernel (which does little
// else) with codes and activations that stay in the first-level cache: what a product of many rows could reach.
double dot_peak(Context& ctx) {
  constexpr int bits = 8;
  constexpr int64_t kGroups = 8;
  constexpr int kRows = 32, kTimes = 20000;
  std::vector<double> seconds_of(size_t(ctx.team().threads()));
  ctx.team().split(ctx.team().threads(), [&](int, int64_t begin, int64_t end) {
    for (int64_t thread = begin; thread < end; ++thread) {
      const std::vector<uint8_t> codes(size_t(kGroups * 128 * bits) + 8192, 1);
      const std::vector<bf16> scales(size_t(kGroups * 32), to_bf16(0.5f));
      const std::vector<int8_t> q(size_t(kRows * kGroups * kGroup), 1);
      const std::vector<int32_t> sums(size_t(kRows * kGroups), 1);
      const std::vector<float> q_scales(sums.size(), 1.0f);
      std::vector<float> y(kRows * kOutputBlock);
      const double start = seconds();
      for (int i = 0; i < kTimes; ++i)
        vector_ops(ctx.isa()).low_bit_block({.codes = codes.data(),
                                             .scales = scales.data(),
                                             .bits = bits,
                                             .groups = kGroups,
                                             .stride = kGroups,
                                             .rows = kRows,
                                             .q = q.data(),
                                             .q_sums = sums.data(),
                                             .q_scales = q_scales.data(),
                                             .y = y.data()});
      seconds_of[size_t(thread)] = seconds() - start;
    }
  });
  double rate = 0;
  for (double elapsed : seconds_of) rate += 2.0 * kRows * kGroups * kGroup * kOutputBlock * kTimes / elapsed;
  return rate;
}

struct Layer {
  PackedMatrix up, down;  // [d, h], [h, d]
};

// Random weights; of low-bit formats random codes.
PackedMatrix make_matrix(WeightFormat format, PlaneScales kind, int64_t inputs, int64_t outputs) {
  PackedMatrix out(format, inputs, outputs, {0, inputs});
  if (has_planes(format)) {
    const std::vector<uint8_t> scales(size_t((outputs / 64 + 1) * inputs * bits_of(format)), plane_scale_byte(5));
    const std::vector<int8_t> exponents(scales.size(), -10);
    out.planes().add(0, 0, outputs, kind, scales.data(), exponents.data());
    std::vector<uint8_t> codes(size_t((inputs * bits_of(format) + 7) / 8));
    for (size_t i = 0; i < codes.size(); ++i) codes[i] = uint8_t(i * 2654435761u >> 20);
    for (int64_t n = 0; n < outputs; ++n) out.planes().pack(n, 1, codes.data());
    return out;
  }
  if (!is_low_bit(format)) {
    std::vector<float> values(size_t(inputs) * outputs);
    for (size_t i = 0; i < values.size(); ++i) values[i] = float(int(i * 2654435761u >> 20 & 255) - 128) / 4096.0f;
    out.pack(0, 0, {values.data(), DType::f32, inputs, outputs, outputs, 1});
    return out;
  }
  std::vector<uint8_t> codes(size_t((inputs * bits_of(format) + 7) / 8));
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = uint8_t(i * 2654435761u >> 20);
  const std::vector<bf16> scale(size_t((inputs + kGroup - 1) / kGroup), to_bf16(0.001f)), minimum(scale);
  for (int64_t n = 0; n < outputs; ++n)
    out.low_bit().pack(n, 1, codes.data(), scale.data(), format == WeightFormat::int8 ? nullptr : minimum.data());
  return out;
}

std::vector<Layer> make_layers(WeightFormat format, PlaneScales kind, int64_t d, int64_t h) {
  std::vector<Layer> layers;
  for (size_t bytes = 0; bytes < kSetBytes; bytes += layers.back().up.bytes() + layers.back().down.bytes())
    layers.push_back({make_matrix(format, kind, d, h), make_matrix(format, kind, h, d)});
  return layers;
}

void report_decode(Context& ctx, const Buffer& memory, const char* name, const std::vector<Layer>& layers,
                   int64_t rows) {
  const int64_t d = layers[0].up.inputs(), h = layers[0].up.outputs();
  std::vector<float> x(rows * d, 0.5f), hidden(rows * h), y(rows * d);
  size_t bytes = 0;
  for (const Layer& layer : layers) bytes += layer.up.bytes() + layer.down.bytes();
  std::vector<double> products, reads;
  for (int round = 0; round < 6; ++round) {
    reads.push_back(stream_read(ctx, memory) / 1e9);
    const double start = seconds();
    for (const Layer& layer : layers) {
      matmul(ctx, {x.data(), rows, d}, layer.up, nullptr, {hidden.data(), rows, h});
      matmul(ctx, {hidden.data(), rows, h}, layer.down, nullptr, {y.data(), rows, d});
    }
    products.push_back(double(bytes) / (seconds() - start) / 1e9);
  }
  std::printf("%-22s M=%-3ld %5.1f GB/s   %3.0f%% of the %.1f GB/s read bandwidth", name, long(rows), median(products),
              100 * median(products) / median(reads), median(reads));
  if (is_low_bit(layers[0].up.format())) {
    const double operations = 4.0 * double(rows) * double(d) * double(h) * double(layers.size());
    const double rate = median(products) * 1e9 / double(bytes) * operations;
    const double peak = dot_peak(ctx);
    std::printf("   %4.0f Gop/s, %3.0f%% of the dot peak %.0f", rate / 1e9, 100 * rate / peak, peak / 1e9);
  }
  std::printf("\n");
}

void report_prefill(Context& ctx, const char* name, const Layer& layer, int64_t rows) {
  const int64_t d = layer.up.inputs(), h = layer.up.outputs();
  std::vector<float> x(rows * d, 0.5f), hidden(rows * h), y(rows * d);
  std::vector<double> rates;
  for (int round = 0; round < 5; ++round) {
    const double start = seconds();
    matmul(ctx, {x.data(), rows, d}, layer.up, nullptr, {hidden.data(), rows, h});
    matmul(ctx, {hidden.data(), rows, h}, layer.down, nullptr, {y.data(), rows, d});
    rates.push_back(4.0 * double(rows) * double(d) * double(h) / (seconds() - start) / 1e9);
  }
  std::printf("%-22s M=%-3ld %5.0f GFLOP/s\n", name, long(rows), median(rates));
}

}  // namespace
}  // namespace pleat

int main(int argc, char** argv) {
  using namespace pleat;
  const int threads = argc > 1 ? std::atoi(argv[1]) : int(std::thread::hardware_concurrency());
  Context ctx(threads, false);
  Buffer memory(kSetBytes);
  std::memset(memory.as<void>(), 1, memory.bytes());
  std::printf("%s, %d threads\n", name_of(ctx.isa()), threads);
  const struct {
    const char* name;
    WeightFormat format;
    int64_t d, h;
    PlaneScales scales = PlaneScales::column;
  } cases[] = {{"bf16 1600 x 6400", WeightFormat::bf16, 1600, 6400},
               {"bf16 4544 x 18176", WeightFormat::bf16, 4544, 18176},
               {"int8 4096 x 11008", WeightFormat::int8, 4096, 11008},
               {"int6 4096 x 11008", WeightFormat::int6, 4096, 11008},
               {"int4 4096 x 11008", WeightFormat::int4, 4096, 11008},
               {"int3 4096 x 11008", WeightFormat::int3, 4096, 11008},
               {"planes4 column", WeightFormat::planes4, 4096, 11008},
               {"planes4 block", WeightFormat::planes4, 4096, 11008, PlaneScales::block},
               {"planes3 column", WeightFormat::planes3, 4096, 11008},
               {"planes3 block", WeightFormat::planes3, 4096, 11008, PlaneScales::block},
               {"planes2 column", WeightFormat::planes2, 4096, 11008},
               {"planes2 block", WeightFormat::planes2, 4096, 11008, PlaneScales::block}};
  for (const auto& c : cases) {
    if (argc > 2 && std::strstr(c.name, argv[2]) == nullptr) continue;
    const std::vector<Layer> layers = make_layers(c.format, c.scales, c.d, c.h);
    for (int64_t rows : {1, 4, 16}) report_decode(ctx, memory, c.name, layers, rows);
    report_prefill(ctx, c.name, layers[0], 256);
    std::fflush(stdout);
  }
}
