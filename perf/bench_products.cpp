// Products with packed weights, that rotate over more memory than any cache holds: of 1, 4 and 16 rows (decode) and of
// 256 (a prompt).
#include <memory>
#include <vector>

#include "bench_kernels.h"
#include "kernels/matmul.h"
#include "kernels/matmul_tile.h"
#include "kernels/panel_product.h"
#include "kernels/vector_ops.h"
#include "product_peak.h"

namespace pleat {
namespace {

// Multiplications and additions a second by dot products of bytes, measured on the 8-bit kernel (which does little
// else) with codes and activations that stay in the first-level cache. Kernels of other formats may do better.
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

struct Case {
  std::string name;
  WeightFormat format;
  int64_t d, h;
  PlaneScales scales = PlaneScales::column;
};

std::vector<Layer> make_layers(WeightFormat format, PlaneScales kind, int64_t d, int64_t h) {
  std::vector<Layer> layers;
  for (size_t bytes = 0; bytes < machine().memory.bytes();
       bytes += layers.back().up.bytes() + layers.back().down.bytes())
    layers.push_back({make_matrix(format, kind, d, h), make_matrix(format, kind, h, d)});
  return layers;
}

// The layers of the case measured last.
const std::vector<Layer>& layers_of(const Case& c) {
  static std::string held;
  static std::vector<Layer> layers;
  if (held != c.name) {
    layers.clear();
    layers = make_layers(c.format, c.scales, c.d, c.h);
    held = c.name;
  }
  return layers;
}

void count_operations(benchmark::State& state, double operations, double peak) {
  state.counters["Gop/s"] = operations / 1e9;
  state.counters["%peak"] = 100 * operations / peak;
}

double peak_of(const Case& c) {
  Context& ctx = machine().context;
  return is_low_bit(c.format) ? dot_peak(ctx) : product_peak(ctx, tile_kernels(ctx.isa()).bf16_pairs);
}

void decode(benchmark::State& state, const Case& c, int64_t rows) {
  const std::vector<Layer>& layers = layers_of(c);
  std::vector<float> x(rows * c.d, 0.5f), hidden(rows * c.h), y(rows * c.d);
  double bytes = 0;
  for (const Layer& layer : layers) bytes += double(layer.up.bytes() + layer.down.bytes());
  const double time = measure_reads(state, bytes, [&] {
    for (const Layer& layer : layers) {
      matmul(machine().context, {x.data(), rows, c.d}, layer.up, nullptr, {hidden.data(), rows, c.h});
      matmul(machine().context, {hidden.data(), rows, c.h}, layer.down, nullptr, {y.data(), rows, c.d});
    }
  });
  count_operations(state, 4.0 * double(rows * c.d * c.h) * double(layers.size()) / time, peak_of(c));
}

void prompt(benchmark::State& state, const Case& c, int64_t rows) {
  const Layer& layer = layers_of(c)[0];
  std::vector<float> x(rows * c.d, 0.5f), hidden(rows * c.h), y(rows * c.d);
  std::vector<double> times, peaks;
  for ([[maybe_unused]] auto _ : state) {
    peaks.push_back(peak_of(c));
    const double start = seconds();
    matmul(machine().context, {x.data(), rows, c.d}, layer.up, nullptr, {hidden.data(), rows, c.h});
    matmul(machine().context, {hidden.data(), rows, c.h}, layer.down, nullptr, {y.data(), rows, c.d});
    times.push_back(seconds() - start);
    state.SetIterationTime(times.back());
  }
  count_operations(state, 4.0 * double(rows * c.d * c.h) / median(times), median(peaks));
}

}  // namespace

// "%peak" is of fused multiply-adds (or dot products of bf16 pairs) between registers; of low-bit formats of dot
// products of bytes.
void register_products() {
  static const std::vector<Case> cases = {{"bf16 1600x6400", WeightFormat::bf16, 1600, 6400},
                                          {"bf16 4544x18176", WeightFormat::bf16, 4544, 18176},
                                          {"bf16 4096x4096", WeightFormat::bf16, 4096, 4096},
                                          {"int8 4096x4096", WeightFormat::int8, 4096, 4096},
                                          {"int8 4096x11008", WeightFormat::int8, 4096, 11008},
                                          {"int6 4096x11008", WeightFormat::int6, 4096, 11008},
                                          {"int4 4096x11008", WeightFormat::int4, 4096, 11008},
                                          {"int3 4096x11008", WeightFormat::int3, 4096, 11008},
                                          {"planes4 column", WeightFormat::planes4, 4096, 11008},
                                          {"planes4 block", WeightFormat::planes4, 4096, 11008, PlaneScales::block},
                                          {"planes3 column", WeightFormat::planes3, 4096, 11008},
                                          {"planes3 block", WeightFormat::planes3, 4096, 11008, PlaneScales::block},
                                          {"planes2 column", WeightFormat::planes2, 4096, 11008},
                                          {"planes2 block", WeightFormat::planes2, 4096, 11008, PlaneScales::block}};
  for (const Case& c : cases) {
    for (int64_t rows : {1, 4, 16})
      add_benchmark("products/" + c.name + "/rows:" + std::to_string(rows), 6,
                    [&c, rows](benchmark::State& state) { decode(state, c, rows); });
    add_benchmark("products/" + c.name + "/prompt:256", 5, [&c](benchmark::State& state) { prompt(state, c, 256); });
  }
}

}  // namespace pleat
