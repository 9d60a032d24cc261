#include "kernels/predictor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/check.h"
#include "vectors.h"

namespace pleat {
namespace {

constexpr int64_t kInputsOf[] = {320, 100, 64, 1600};

// Random codes, scales and minimums as a checkpoint stores them, and the packed matrix.
struct Predictor {
  Predictor(int bits, int64_t neurons, int64_t inputs)
      : bits(bits),
        neurons(neurons),
        inputs(inputs),
        groups((inputs + 63) / 64),
        row_bytes((inputs * bits + 7) / 8),
        codes(size_t(neurons * row_bytes)),
        scale(size_t(neurons * groups)),
        minimum(scale.size()),
        bias(random_floats(size_t(neurons), 3)),
        packed(bits, neurons, inputs) {
    std::mt19937 generator(1);
    for (uint8_t& byte : codes) byte = uint8_t(generator());
    const std::vector<float> random = random_floats(scale.size(), 2, 0.05f);
    for (size_t i = 0; i < scale.size(); ++i) {
      scale[i] = to_bf16(std::fabs(random[i]));
      minimum[i] = to_bf16(-1.5f * to_f32(scale[i]));
    }
    const int64_t first = neurons / 3;
    packed.pack(0, first, codes.data(), scale.data(), minimum.data());
    packed.pack(first, neurons - first, codes.data() + first * row_bytes, scale.data() + first * groups,
                minimum.data() + first * groups);
  }

  double weight(int64_t neuron, int64_t input) const {
    unsigned code = 0;
    for (int bit = 0; bit < bits; ++bit) {
      const int64_t at = input * bits + bit;
      code |= unsigned(codes[neuron * row_bytes + at / 8] >> (at % 8) & 1) << bit;
    }
    const int64_t group = neuron * groups + input / 64;
    return to_f32(minimum[group]) + double(to_f32(scale[group])) * code;
  }

  std::vector<float> z(Isa isa, const std::vector<float>& x, int threads = 1) const {
    const int64_t rows = int64_t(x.size()) / inputs;
    Context ctx(threads, true, isa);
    std::vector<float> out(size_t(rows * neurons));
    predict(ctx, {x.data(), rows, inputs}, packed, bias.data(), {out.data(), rows, neurons});
    return out;
  }

  int bits;
  int64_t neurons, inputs, groups, row_bytes;
  std::vector<uint8_t> codes;
  std::vector<bf16> scale, minimum;
  std::vector<float> bias;
  LowBitMatrix packed;
};

TEST(Predictor, AgreesWithPlainLoopsOverTheDequantisedWeightsAndQuantisedActivations) {
  for (int bits : {1, 2, 3})
    for (int64_t inputs : kInputsOf) {
      const Predictor predictor(bits, 37, inputs);
      const int64_t rows = 6;
      const std::vector<float> x = random_floats(size_t(rows * inputs), 5, 2);
      for (Isa isa : isas_here()) {
        const std::vector<float> z = predictor.z(isa, x);
        for (int64_t row = 0; row < rows; ++row) {
          std::vector<double> quantised;
          for (int64_t begin = 0; begin < inputs; begin += 64) {
            const auto from = x.begin() + row * inputs + begin, to = from + std::min<int64_t>(64, inputs - begin);
            float highest = 0;
            for (auto i = from; i < to; ++i) highest = std::max(highest, std::fabs(*i));
            const float s = highest / 127;
            for (auto i = from; i < to; ++i) quantised.push_back(double(s) * std::nearbyint(*i / s));
          }
          for (int64_t neuron = 0; neuron < predictor.neurons; ++neuron) {
            double expected = predictor.bias[neuron], size = 1;
            for (int64_t i = 0; i < inputs; ++i) {
              const double term = quantised[size_t(i)] * predictor.weight(neuron, i);
              expected += term;
              size += std::fabs(term);
            }
            // the integer part is exact; a few roundings a group
            const double tolerance = size * double(4 * predictor.groups) * std::ldexp(1, -24);
            ASSERT_NEAR(z[row * predictor.neurons + neuron], expected, tolerance)
                << bits << " bits, " << inputs << " inputs on " << name_of(isa);
          }
        }
      }
    }
}

TEST(Predictor, GivesTheSameBitsOnEveryInstructionSetAloneInABatchAndOnAnyThreads) {
  for (int bits : {1, 2, 3})
    for (int64_t inputs : kInputsOf) {
      const Predictor predictor(bits, 53, inputs);
      const int64_t rows = 7;
      const std::vector<float> x = random_floats(size_t(rows * inputs), 5);
      std::vector<float> reference;
      for (int64_t row = 0; row < rows; ++row) {
        const std::vector<float> one =
            predictor.z(Isa::portable, {x.begin() + row * inputs, x.begin() + (row + 1) * inputs});
        reference.insert(reference.end(), one.begin(), one.end());
      }
      for (Isa isa : isas_here())
        for (int threads : {1, 2, 3})
          EXPECT_TRUE(same_bits(predictor.z(isa, x, threads), reference))
              << bits << " bits, " << inputs << ", " << name_of(isa);
    }
}

TEST(Predictor, TakesMoreRowsThanShareASelection) {
  const Predictor predictor(2, 20, 64);
  const std::vector<float> x = random_floats(70 * 64, 5);
  const std::vector<float> all = predictor.z(detect_isa(), x),
                           last = predictor.z(detect_isa(), {x.end() - 64, x.end()});
  EXPECT_TRUE(same_bits(all.data() + 69 * 20, last.data(), 20));
}

TEST(Predictor, OfAZeroRowIsTheBias) {
  const Predictor predictor(2, 20, 100);
  for (Isa isa : isas_here()) EXPECT_TRUE(same_bits(predictor.z(isa, std::vector<float>(100)), predictor.bias));
}

TEST(PredictSelection, ListsPerLeafTheNeuronsOutsideTheirRangeWithAMaskOfRows) {
  const int64_t neurons = 203, inputs = 100;
  const Predictor predictor(2, neurons, inputs);
  const std::vector<float> low(size_t(neurons), -1.2f), high(size_t(neurons), 1.0f);
  for (int64_t rows : {1, 3, 32}) {
    const std::vector<float> x = random_floats(size_t(rows * inputs), 9);
    const std::vector<float> z = predictor.z(Isa::portable, x);
    for (Isa isa : isas_here())
      for (int threads : {1, 2, 3}) {
        Context ctx(threads, true, isa);
        Selection selection({0, 5, 5, 90, 161, 203, 203});
        for (int again = 0; again < 2; ++again)
          predict_selection(ctx, {x.data(), rows, inputs}, predictor.packed, predictor.bias.data(), low.data(),
                            high.data(), selection);
        int32_t at = 0;
        for (size_t leaf = 0; leaf + 1 < selection.leaf_offsets.size(); ++leaf) {
          ASSERT_EQ(selection.leaf_begin[leaf], at);
          for (int64_t neuron = selection.leaf_offsets[leaf]; neuron < selection.leaf_offsets[leaf + 1]; ++neuron) {
            uint32_t mask = 0;
            for (int64_t row = 0; row < rows; ++row) {
              const float value = z[row * neurons + neuron];
              mask |= uint32_t(value < low[neuron] || value > high[neuron]) << row;
            }
            if (mask == 0) continue;
            ASSERT_LT(at, selection.count());
            ASSERT_EQ(selection.neuron[at], neuron);
            ASSERT_EQ(selection.rows[at], mask);
            ++at;
          }
        }
        ASSERT_EQ(selection.count(), at);
        ASSERT_GT(at, 0);
      }
  }
}

TEST(PredictSelection, SelectsEveryNeuronOfAnInfiniteRow) {
  const Predictor predictor(2, 40, 64);
  const std::vector<float> low(40, -1e30f), high(40, 1e30f);
  for (Isa isa : isas_here()) {
    Context ctx(1, false, isa);
    Selection selection({0, 40});
    std::vector<float> x(64, 1.0f);
    x[7] = std::numeric_limits<float>::infinity();
    predict_selection(ctx, {x.data(), 1, 64}, predictor.packed, predictor.bias.data(), low.data(), high.data(),
                      selection);
    EXPECT_EQ(selection.count(), 40) << name_of(isa);
  }
}

TEST(Predictor, RefusesOtherWidths) { EXPECT_THROW(LowBitMatrix(7, 16, 64), Error); }

}  // namespace
}  // namespace pleat
