// Random weights of a given shape: what a measurement needs, without a checkpoint.
#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "core/engine/weights.h"
#include "kernels/check.h"
#include "kernels/context.h"

namespace pleat {
namespace {

constexpr int64_t kStrip = 1 << 21;  // elements of the random strip that every matrix is cut from
constexpr double kDeviation = 0.02;  // of the weights

class Filler {
 public:
  explicit Filler(Context& context) : context_(context), values_(kStrip), codes_(size_t(kStrip) + (1 << 20)) {
    std::mt19937 generator(1);
    std::normal_distribution<float> normal(0.0f, float(kDeviation));
    for (bf16& value : values_) value = to_bf16(normal(generator));
    for (uint8_t& code : codes_) code = uint8_t(generator());
  }

  // Every element; threads take columns.
  void fill(PackedMatrix& w) {
    if (has_planes(w.format())) return fill(w.planes());
    if (is_low_bit(w.format())) {
      const auto [scale, minimum] = grid_of(w.format());
      return fill(w.low_bit(), scale, minimum);
    }
    const int64_t panels = (w.outputs() + kColumnBlock - 1) / kColumnBlock;
    context_.team().split(panels, [&](int, int64_t begin, int64_t end) {
      const int64_t first = begin * kColumnBlock, columns = std::min(w.outputs(), end * kColumnBlock) - first;
      for (int64_t k = 0; columns > 0 && k < w.inputs();) {
        const int64_t rows = std::max<int64_t>(1, std::min(w.inputs() - k, kStrip / columns));
        w.pack(k, first, {values_.data(), DType::bf16, rows, columns, columns, 1});
        k += rows;
      }
    });
  }

  void fill(NeuronRows& w) {
    if (is_low_bit(w.format())) return fill_low_bit(w);
    context_.team().split(w.neurons(), [&](int, int64_t begin, int64_t end) {
      const int64_t step = std::max<int64_t>(1, kStrip / w.width());
      for (int64_t n = begin; n < end; n += step)
        w.pack(n, 0, {values_.data(), DType::bf16, std::min(step, end - n), w.width(), w.width(), 1});
    });
  }

  void fill(LowBitMatrix& p, float scale, float minimum) {
    if (p.inputs() == 0) return;
    const int64_t groups = (p.inputs() + kGroup - 1) / kGroup, row_bytes = (p.inputs() * p.bits() + 7) / 8;
    const int64_t step = std::max<int64_t>(kOutputBlock, kStrip / row_bytes / kOutputBlock * kOutputBlock);
    const std::vector<bf16> scales(size_t(step * groups), to_bf16(scale)), minimums(scales.size(), to_bf16(minimum));
    context_.team().each((p.outputs() + step - 1) / step, [&](int, int64_t strip) {
      p.pack(strip * step, std::min(step, p.outputs() - strip * step), codes_.data(), scales.data(),
             p.bits() < 8 ? minimums.data() : nullptr);
    });
  }

  // Levels at even distances, by column.
  void fill(PlanesMatrix& w) {
    const int64_t row_bytes = (w.inputs() * w.planes() + 7) / 8;
    std::vector<uint8_t> scales;
    for (int64_t i = 0; i < (w.outputs() + kPlaneOutputs - 1) / kPlaneOutputs * w.inputs(); ++i)
      for (int plane = 0; plane < w.planes(); ++plane) scales.push_back(plane_scale_byte(64 >> (w.planes() - plane)));
    const std::vector<int8_t> exponents(scales.size(), -10);  // weights of deviation 0.01 to 0.02
    w.add(0, 0, w.outputs(), PlaneScales::column, scales.data(), exponents.data());
    if (row_bytes == 0) return;
    const int64_t step = std::max<int64_t>(1, kStrip / row_bytes / kPlaneOutputs * kPlaneOutputs);
    context_.team().each((w.outputs() + step - 1) / step, [&](int, int64_t strip) {
      w.pack(strip * step, std::min(step, w.outputs() - strip * step), codes_.data());
    });
  }

 private:
  // Scale and minimum with which uniform codes are weights of mean 0 and deviation kDeviation.
  static std::pair<float, float> grid_of(WeightFormat format) {
    const double levels = 1 << bits_of(format), scale = kDeviation * std::sqrt(12 / (levels * levels - 1));
    return {float(scale), float(-scale * (levels - 1) / 2)};
  }

  void fill_low_bit(NeuronRows& w) {
    const auto [scale, minimum] = grid_of(w.format());
    const int64_t row_bytes = (w.width() * bits_of(w.format()) + 7) / 8,
                  step = std::max<int64_t>(1, kStrip / row_bytes);
    const std::vector<bf16> scales(size_t(step * w.groups()), to_bf16(scale)),
        minimums(scales.size(), to_bf16(minimum));
    std::vector<uint8_t> plane_scales;  // 1, 2, 4 and 8: levels at even distances
    for (size_t i = 0; has_planes(w.format()) && i < scales.size(); ++i)
      for (int plane = 0; plane < bits_of(w.format()); ++plane) plane_scales.push_back(plane_scale_byte(1 << plane));
    context_.team().each((w.neurons() + step - 1) / step, [&](int, int64_t strip) {
      w.pack_low_bit(strip * step, std::min(step, w.neurons() - strip * step), codes_.data(), scales.data(),
                     bits_of(w.format()) < 8 ? minimums.data() : nullptr,
                     has_planes(w.format()) ? plane_scales.data() : nullptr);
    });
  }

  Context& context_;
  std::vector<bf16> values_;
  std::vector<uint8_t> codes_;
};

// The z with P(normal > z) = share.
double upper_quantile(double share) {
  double low = -8, high = 8;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (0.5 * std::erfc(middle / std::sqrt(2.0)) > share ? low : high) = middle;
  }
  return low;
}

void fill_predictor(const LayerFoldSpec& spec, double share, int64_t d, int64_t mine, Filler& filler, FoldedFfn& ffn) {
  // Codes are uniform, so a weight has mean 0 and variance scale² (levels² - 1) / 12, and z~ of a normed x is nearly
  // normal.
  const double levels = 1 << spec.predictor_bits, scale = 0.02;
  ffn.predictor = LowBitMatrix(spec.predictor_bits, mine, d);
  filler.fill(ffn.predictor, float(scale), float(-scale * (levels - 1) / 2));
  const double deviation = scale * std::sqrt((levels * levels - 1) / 12 * double(d));
  ffn.range_low.assign(size_t(mine), -std::numeric_limits<float>::infinity());
  ffn.range_high.assign(size_t(mine), float(upper_quantile(share) * deviation));
}

// Predictions of a normed x are nearly normal, with the deviation that uniform codes give; the threshold is the
// quantile of the score's part that differs between neurons in a sample of such.
void fill_gate_predictors(const LayerFoldSpec& spec, double share, int64_t d, int64_t mine, WeightFormat dtype,
                          Filler& filler, FoldedFfn& ffn) {
  const double levels = 1 << spec.predictor_bits, scale = 0.02;
  for (LowBitMatrix* predictor : {&ffn.predictor, &ffn.gate_predictor}) {
    *predictor = LowBitMatrix(spec.predictor_bits, mine, d);
    filler.fill(*predictor, float(scale), float(-scale * (levels - 1) / 2));
  }
  ffn.gate = NeuronRows(dtype, mine, d);
  filler.fill(ffn.gate);
  ffn.gate_slope.assign(size_t(mine), 0.1f);
  ffn.factor.assign(size_t(mine), 1.0f);
  // Both predictors have the same codes here, so u~ = g~.
  std::mt19937 generator(2);
  std::normal_distribution<float> normal(0.0f, float(scale * std::sqrt((levels * levels - 1) / 12 * double(d))));
  std::vector<float> scores(1 << 16);
  for (float& score : scores) {
    const float g = normal(generator);
    score = std::fabs((g / (1 + std::exp(-g)) - ffn.slope[0]) * g - (0.1f * g + ffn.intercept[0]));
  }
  std::sort(scores.begin(), scores.end());
  ffn.threshold = scores[size_t((1 - share) * double(scores.size() - 1))];
}

// The exact gate of a normed x is nearly normal; the threshold is the quantile of a sample's scores.
void fill_gate_scores(double share, int64_t d, int64_t mine, FoldedFfn& ffn) {
  ffn.gate_slope.assign(size_t(mine), 0.0f);
  ffn.center.assign(size_t(mine), ffn.slope.empty() ? 0.0f : ffn.slope[0]);
  ffn.factor.assign(size_t(mine), 1.0f);
  std::mt19937 generator(2);
  std::normal_distribution<float> normal(0.0f, float(kDeviation * std::sqrt(double(d))));
  std::vector<float> scores(1 << 16);
  for (float& score : scores) {
    const float g = normal(generator);
    score = std::fabs(g / (1 + std::exp(-g)) - 0.5f);
  }
  std::sort(scores.begin(), scores.end());
  ffn.threshold = scores[size_t((1 - share) * double(scores.size() - 1))];
}

FoldedFfn synthetic_fold(const Blueprint& blueprint, int layer, const FfnBytes& bytes, const ShardPlan& plan, int rank,
                         WeightFormat dtype, Filler& filler) {
  const LayerFoldSpec& spec = blueprint.layer_fold(layer);
  const int64_t d = blueprint.hidden, mine = plan.neurons(rank).size();
  const double reduction = blueprint.fold->reduction;
  const double share =
      ((1 - reduction) * double(bytes.dense) - double(bytes.fixed)) / double(bytes.per_neuron * blueprint.neurons);
  PLEAT_REQUIRE(share >= 0 && share <= 1, "no share of exact neurons gives a reduction of ", reduction,
                " on this shape");
  FoldedFfn ffn;
  ffn.fold = PackedMatrix(spec.fold_format, plan.fold_inputs(rank).size(), d, plan.fold_offsets(rank));
  filler.fill(ffn.fold);
  ffn.fold_bias.assign(size_t(d), 0.0f);
  ffn.slope.assign(size_t(mine), 0.5f);
  ffn.intercept.assign(size_t(mine), 0.1f);
  if (spec.selection == SelectionKind::gate)
    fill_gate_scores(share, d, mine, ffn);
  else if (blueprint.gated)
    fill_gate_predictors(spec, share, d, mine, dtype, filler, ffn);
  else
    fill_predictor(spec, share, d, mine, filler, ffn);
  ffn.up = NeuronRows(dtype, mine, d);
  ffn.down = NeuronRows(dtype, mine, d);
  filler.fill(ffn.up);
  filler.fill(ffn.down);
  return ffn;
}

}  // namespace

Weights synthetic_weights(const Blueprint& blueprint, const ShardPlan& plan, int rank, WeightFormat dtype,
                          Context& context, WeightTaker* taker) {
  const int64_t d = blueprint.hidden, head_size = blueprint.head_size;
  const Range heads = plan.heads(rank), kv_heads = plan.kv_heads(rank), neurons = plan.neurons(rank);
  Filler filler(context);
  const NormWeights norm{Vector(size_t(d), 1.0f), Vector(size_t(d), 0.0f)};
  Weights weights;
  weights.head = PackedMatrix(dtype, d, plan.vocab(rank).size(), {0, d});
  filler.fill(weights.head);
  if (blueprint.positions == PositionKind::learned) {
    weights.position_embedding = NeuronRows(is_low_bit(dtype) ? WeightFormat::bf16 : dtype, blueprint.max_positions, d);
    filler.fill(weights.position_embedding);
  }
  weights.final_norm = norm;
  if (taker) weights.taken_bytes += hand_over(*taker, weights);
  for (int layer = 0; layer < blueprint.layers; ++layer) {
    LayerWeights& w = weights.layers.emplace_back();
    w.attention_norm = norm;
    if (!blueprint.parallel_residual) w.ffn_norm = norm;
    const int64_t outputs = (heads.size() + 2 * kv_heads.size()) * head_size;
    w.attention.query_key_value = PackedMatrix(dtype, d, outputs, {0, d});
    filler.fill(w.attention.query_key_value);
    w.attention.query_key_value_bias.assign(size_t(outputs), 0.0f);
    std::vector<int64_t> leaves;
    for (int64_t head = 0; head <= heads.size(); ++head) leaves.push_back(head * head_size);
    w.attention.output = PackedMatrix(dtype, heads.size() * head_size, d, leaves);
    filler.fill(w.attention.output);
    w.up_bias.assign(size_t(neurons.size()), 0.0f);
    if (blueprint.gated) w.gate_bias = w.up_bias;
    w.neurons = neurons.size();
    w.neuron_offsets = plan.neuron_offsets(rank);
    w.spec = blueprint.layer_fold(layer);
    const WeightFormat stored = is_low_bit(dtype) ? dtype : WeightFormat::bf16;
    w.ffn_bytes = ffn_bytes(w.spec, {stored, stored, stored}, blueprint.gated, d, blueprint.neurons);
    w.folded = w.by_neuron = blueprint.fold.has_value();
    if (w.folded) {
      w.fold = synthetic_fold(blueprint, layer, w.ffn_bytes, plan, rank, dtype, filler);
      if (w.spec.selection == SelectionKind::gate && has_planes(dtype)) {
        w.fold.gate = NeuronRows(dtype, neurons.size(), d);  // as load_ffn.cpp's
        filler.fill(w.fold.gate);
      } else if (w.spec.selection == SelectionKind::gate) {
        w.dense.gate = PackedMatrix(dtype, d, neurons.size(), {0, d});
        filler.fill(w.dense.gate);
      }
      if (!taker) w.lay_gathered_rows();
    } else {
      if (blueprint.gated) {
        w.dense.gate = PackedMatrix(dtype, d, neurons.size(), {0, d});
        filler.fill(w.dense.gate);
      }
      w.dense.up = PackedMatrix(dtype, d, neurons.size(), {0, d});
      w.dense.down = PackedMatrix(dtype, neurons.size(), d, plan.neuron_offsets(rank));
      filler.fill(w.dense.up);
      filler.fill(w.dense.down);
    }
    if (taker) weights.taken_bytes += hand_over(*taker, layer, w);
  }
  return weights;
}

}  // namespace pleat
