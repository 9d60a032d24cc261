// The gather of low-bit neurons against plain loops in double precision on the checkpoint's numbers.
#include <gtest/gtest.h>

#include <string>

#include "low_bit_rows_fixture.h"

namespace pleat {
namespace {

struct Formats {
  WeightFormat gate, up, down;
};

std::vector<Formats> all_formats() {
  using enum WeightFormat;
  std::vector<Formats> all = {{int4, int3, int4}, {int4, bf16, int4}, {bf16, int8, bf16}, {int8, f32, int2}};
  for (WeightFormat format : kRowFormats) all.push_back({format, format, format});
  return all;
}

// A gated or plain FFN whose inputs 3 and 35 and neurons 17 and 60 are loud, and a selection for up to 32 rows.
struct Gather {
  static constexpr int64_t kNeurons = 61, kRows = 32;
  enum Kind { plain, gates_known, gates_gathered, all_known };
  static constexpr Kind kKinds[] = {plain, gates_known, gates_gathered, all_known};

  int64_t width;
  RandomRows gate, up, down;
  std::vector<float> x, bias = random_floats(kNeurons, 4), gate_bias = random_floats(kNeurons, 5),
                        a = random_floats(kNeurons, 6, 0.3f), c = random_floats(kNeurons, 7, 0.3f),
                        b = random_floats(kNeurons, 8, 0.3f), known = random_floats(kRows * kNeurons, 9),
                        activated = random_floats(kRows * kNeurons, 10);
  std::vector<uint32_t> chosen = std::vector<uint32_t>(kNeurons);  // bit m: row m
  std::vector<int64_t> leaf_offsets = {0, 20, 20, 41, kNeurons};
  static constexpr int kLeaves = 4;

  Gather(Formats formats, int64_t width)
      : width(width),
        gate(formats.gate, kNeurons, width, 11, {7}),
        up(formats.up, kNeurons, width, 21, {3, 35}),
        down(formats.down, kNeurons, width, 31, {}, {17, 60}),
        x(random_floats(size_t(kRows * width), 1)) {
    for (int64_t row = 0; row < kRows; ++row)
      for (int64_t input : {3, 35}) x[size_t(row * width + input)] *= 1000;
    std::mt19937 generator(2);
    for (uint32_t& mask : chosen) mask = uint32_t(generator() & generator());
    chosen[17] = chosen[60] = 0xffffffffu;
    chosen[50] = 0;
  }

  // Rows [first, first + count): leaves [leaves][count, width].
  std::vector<float> run(Isa isa, int threads, Kind kind, int64_t first = 0, int64_t count = kRows) const {
    Context ctx(threads, true, isa);
    Selection selection(leaf_offsets);
    selection.clear();
    int32_t size = 0;
    for (int leaf = 0; leaf < kLeaves; ++leaf) {
      for (int64_t n = leaf_offsets[size_t(leaf)]; n < leaf_offsets[size_t(leaf) + 1]; ++n) {
        const uint32_t mask = uint32_t(uint64_t(chosen[size_t(n)]) >> first & ((uint64_t(1) << count) - 1));
        if (mask == 0) continue;
        selection.neuron[size_t(size)] = int32_t(n);
        selection.rows[size_t(size++)] = mask;
      }
      selection.leaf_begin[size_t(leaf) + 1] = size;
    }
    std::vector<float> leaves = start(first, count);
    const MatrixView<const float> mine(x.data() + first * width, count, width);
    const MatrixView<const float> g(known.data() + first * kNeurons, count, kNeurons);
    const MatrixView<const float> act(activated.data() + first * kNeurons, count, kNeurons);
    const GatedLines lines{a.data(), c.data(), b.data()};
    switch (kind) {
      case plain:
        fix_up(ctx, mine, up.rows, down.rows, {bias.data(), a.data(), b.data()}, Activation::relu, selection,
               leaves.data());
        break;
      case gates_known:
        fix_up_gated(ctx, mine, up.rows, down.rows, bias.data(), lines, {g, act}, selection, leaves.data());
        break;
      case gates_gathered:
        fix_up_gated(ctx, mine, gate.rows, up.rows, down.rows, gate_bias.data(), bias.data(), lines, Activation::relu,
                     selection, leaves.data());
        break;
      case all_known:
        add_known(ctx, g, down.rows, selection, leaves.data());
        break;
    }
    return leaves;
  }

  std::vector<float> start(int64_t first, int64_t count) const {
    const std::vector<float> all = random_floats(size_t(kLeaves * kRows * width), 12);
    std::vector<float> out;
    for (int leaf = 0; leaf < kLeaves; ++leaf)
      out.insert(out.end(), &all[size_t((leaf * kRows + first) * width)],
                 &all[size_t((leaf * kRows + first) * width)] + count * width);
    return out;
  }

  // r of equation 2 or 3; a, b and c are at most 1.5, and each operation on z adds a rounding.
  Near residual(Kind kind, int64_t row, int64_t n) const {
    const size_t at = size_t(row * kNeurons + n), i = size_t(n);
    if (kind == all_known) return {down.format == WeightFormat::bf16 ? rounded_to_bf16(known[at]) : known[at], 0};
    const Near z = dot(up, &x[size_t(row * width)], n);
    const double u = z.value + bias[i];
    double g = known[at], h = activated[at], gate_tolerance = 0;
    if (kind == gates_gathered) {
      const Near product = dot(gate, &x[size_t(row * width)], n);
      g = product.value + gate_bias[i];
      h = std::max(g, 0.0);
      gate_tolerance = product.tolerance + std::fabs(g) * 0x1p-23;
    }
    const double up_tolerance = z.tolerance + std::fabs(u) * 0x1p-23;
    if (kind == plain) {
      const double line = a[i] * u + b[i];
      return {std::max(u, 0.0) - line, 2.5 * up_tolerance + 3 * 0x1p-24 * (std::fabs(u) + std::fabs(line))};
    }
    const double line = c[i] * g + b[i], r = (h - a[i]) * u - line;
    const double magnitude = (std::fabs(h) + std::fabs(a[i])) * std::fabs(u) + std::fabs(c[i] * g) + std::fabs(b[i]);
    return {r, (std::fabs(h - a[i]) + gate_tolerance) * up_tolerance + gate_tolerance * (std::fabs(u) + 1.5) +
                   4 * 0x1p-24 * magnitude};
  }
};

// Adds to out [width] the neurons of `leaf` that `row` chose, as neuron_rows.h says. Where residuals are only known to
// a tolerance, which integer they become is too: their exact product is expected, give or take half a step.
void add_leaf(const Gather& t, Gather::Kind kind, int leaf, int64_t row, Near* out) {
  struct Chosen {
    int64_t n;
    Near r;
  };
  std::vector<Chosen> chosen;
  for (int64_t n = t.leaf_offsets[size_t(leaf)]; n < t.leaf_offsets[size_t(leaf) + 1]; ++n)
    if (t.chosen[size_t(n)] >> row & 1) chosen.push_back({n, t.residual(kind, row, n)});
  const WeightFormat format = t.down.format;
  // A bf16 down row takes r in bf16; every term passes up to 21 additions.
  const double rounding = (format == WeightFormat::bf16 && kind != Gather::all_known ? 0x1p-8 : 0) + 24 * 0x1p-24;
  const auto is_loud = [&](int64_t n) {
    return std::count(t.down.loud_neurons.begin(), t.down.loud_neurons.end(), n) > 0;
  };
  for (int64_t k = 0; k < t.width; ++k) {
    const auto scale = [&](int64_t n) { return t.down.scale[size_t(n * t.down.groups() + k / 64)]; };
    float step = 0;
    for (const Chosen& c : chosen)
      if (is_low_bit(format) && !is_loud(c.n)) step = std::max(step, std::fabs(float(c.r.value) * scale(c.n)) / 127);
    for (const auto& [n, r] : chosen) {
      const double weight = t.down.weight(n, k);
      out[k].tolerance += std::fabs(weight) * (r.tolerance + rounding * std::fabs(r.value));
      out[k].value += r.value * weight;
      if (!is_low_bit(format) || is_loud(n)) continue;
      const double around =
          t.down.codes[size_t(n * t.width + k)] - (format == WeightFormat::int8 ? 0
                                                   : has_planes(format)         ? 64
                                                                                : std::exp2(bits_of(format) - 1));
      const float product = float(r.value) * scale(n);
      if (kind == Gather::all_known)
        out[k].value += around * (double(step) * std::nearbyint(product / step) - r.value * double(scale(n)));
      else
        out[k].tolerance += std::fabs(around) * 0.501 * double(step);
      out[k].tolerance += rounding * std::fabs(r.value) * std::fabs(around * double(scale(n)));
    }
  }
}

TEST(LowBitFixUp, AgreesWithPlainLoopsInDouble) {
  for (const Formats& formats : all_formats())
    for (int64_t width : {40, 96, 320, 576, 1100}) {
      const Gather t(formats, width);
      for (Gather::Kind kind : Gather::kKinds) {
        std::vector<Near> expected;
        for (float value : t.start(0, Gather::kRows)) expected.push_back({value, std::fabs(value) * 0x1p-24});
        for (int leaf = 0; leaf < Gather::kLeaves; ++leaf)
          for (int64_t row = 0; row < Gather::kRows; ++row)
            add_leaf(t, kind, leaf, row, &expected[size_t((leaf * Gather::kRows + row) * width)]);
        for (Isa isa : isas_here()) {
          const std::vector<float> out = t.run(isa, 2, kind);
          for (size_t i = 0; i < out.size(); ++i)
            ASSERT_NEAR(out[i], expected[i].value, expected[i].tolerance + 1e-6)
                << name_of(isa) << " " << name_of(formats.up) << " " << name_of(formats.down) << " width " << width
                << " kind " << kind << " at " << i;
        }
      }
    }
}

TEST(LowBitFixUp, GivesTheSameBitsOnAnyThreadsAndInstructionSet) {
  for (const Formats& formats : all_formats())
    for (int64_t width : {40, 1100}) {
      const Gather t(formats, width);
      for (Gather::Kind kind : Gather::kKinds) {
        const std::vector<float> reference = t.run(Isa::portable, 1, kind);
        for (Isa isa : isas_here())
          for (int threads : {1, 3})
            EXPECT_TRUE(same_bits(t.run(isa, threads, kind), reference))
                << name_of(isa) << " " << name_of(formats.up) << " " << name_of(formats.down) << " kind " << kind;
      }
    }
}

TEST(LowBitFixUp, GivesARowTheSameBitsAloneAndInABatch) {
  for (const Formats& formats : all_formats()) {
    const int64_t width = 160;
    const Gather t(formats, width);
    for (Isa isa : isas_here())
      for (Gather::Kind kind : Gather::kKinds) {
        const std::vector<float> batch = t.run(isa, 1, kind);
        for (int64_t first = 0, count = 1; first < Gather::kRows; first += count, count = first % 3 + 1) {
          count = std::min(count, Gather::kRows - first);
          const std::vector<float> few = t.run(isa, 1, kind, first, count);
          for (int leaf = 0; leaf < Gather::kLeaves; ++leaf)
            ASSERT_TRUE(same_bits(&few[size_t(leaf * count * width)],
                                  &batch[size_t((leaf * Gather::kRows + first) * width)], size_t(count * width)))
                << name_of(isa) << " " << name_of(formats.up) << " kind " << kind << " row " << first;
        }
      }
  }
}

// Also where it is neither the largest nor the last that is looked at.
TEST(LowBitFixUp, AResidualThatIsNoNumberMakesItsRowNoNumbersAndLeavesOthers) {
  constexpr int64_t kWidth = 96, kRow = 3;
  for (const Formats& formats : all_formats()) {
    Gather t(formats, kWidth);
    const std::vector<float> before = t.run(Isa::portable, 1, Gather::all_known);
    for (int64_t n = 0; n < 4; ++n) t.chosen[size_t(n)] |= 1u << kRow;
    const std::vector<float> known = t.known;
    for (int64_t n = 0; n < 4; ++n) {
      t.known = known;
      t.known[size_t(kRow * Gather::kNeurons + n)] = NAN;
      for (Isa isa : isas_here()) {
        const std::vector<float> out = t.run(isa, 1, Gather::all_known);
        for (int64_t k = 0; k < kWidth; ++k) {
          ASSERT_TRUE(std::isnan(out[size_t(kRow * kWidth + k)])) << name_of(isa) << " " << name_of(formats.down) << n;
          ASSERT_EQ(out[size_t((kRow + 1) * kWidth + k)], before[size_t((kRow + 1) * kWidth + k)]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace pleat
