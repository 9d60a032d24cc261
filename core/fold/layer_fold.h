#pragma once
// The fold of one layer (method.md equations 1 and 2): what is stored, and what it computes.
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/fold/ffn_tensors.h"
#include "core/fold/gptq.h"
#include "core/fold/products.h"
#include "kernels/activation.h"

namespace pleat {

// C [d, d] as [in, out] in its stored form.
struct StoredFold {
  WeightFormat format = WeightFormat::int8;
  std::vector<int8_t> codes;  // int8: [d, d]
  std::vector<bf16> scales;   // int8: [ceil(d/64), d], one for 64 inputs and an output
  std::vector<bf16> weight;   // bf16: [d, d]
  Table value;                // what the stored numbers mean
};
StoredFold store_fold(const Table& c, WeightFormat format);

struct LayerFold {
  StoredFold fold;
  std::vector<float> bias;              // B [d]
  std::vector<float> slope, intercept;  // a, c [h]; gated: c, f
  // Selection by range:
  LowBitRows predictor;          // P [h, d]
  std::vector<float> low, high;  // of z~ [h]
  // Selection by the exact gate:
  std::vector<float> gate_slope, factor;  // e, rms(u) |w| [h]
  float threshold = 0;                    // of |act(g) - c| factor
};

// C and B of the fold's lines: C = W1 diag(a) W2, B = (b1 a + c) W2 + b2; gated: C = Wu diag(c) Wd + Wg diag(e) Wd,
// B = (bu c + bg e + f) Wd + bd.
Table fold_weight(Context& ctx, const FfnTensors& ffn, const LayerFold& lines);
std::vector<float> fold_bias(const FfnTensors& ffn, const LayerFold& lines);

// Which sum an FFN output is: the dense one; fold and exact residuals; the fold alone; the exact neurons alone, nothing
// for the rest.
enum class FfnForm : uint8_t { dense, folded, alone, dropped };

// Computes a layer in all its forms for many rows, with the arithmetic of the exact weights in `format`.
class FoldedLayer {
 public:
  FoldedLayer(const FfnTensors& ffn, LayerFold fold, Activation activation, WeightFormat format);

  // What decides about the neurons for some rows, computed once for several forms.
  struct Neurons {
    Table up;         // z, or u [rows, h]
    Table predicted;  // z~ [rows, h]; by gate: act(g)
    Table gate;       // g [rows, h] where gated
  };
  Neurons neurons(Context& ctx, MatrixView<const float> x) const;
  // neurons: of the same rows as x.
  Table output(Context& ctx, FfnForm form, MatrixView<const float> x, const Neurons& neurons) const;
  Table output(Context& ctx, FfnForm form, MatrixView<const float> x) const {
    return output(ctx, form, x, neurons(ctx, x));
  }

  // Computed exactly at run time; and what it should be, if the predictor made no errors.
  bool is_selected(const Neurons& neurons, int64_t row, int64_t n) const {
    return gated() ? scores_above(n, neurons.predicted[row][n]) : outside(n, neurons.predicted[row][n]);
  }
  bool should_be_selected(const Neurons& neurons, int64_t row, int64_t n) const {
    return gated() ? scores_above(n, neurons.predicted[row][n]) : outside(n, neurons.up[row][n]);
  }

 private:
  bool gated() const { return !fold_.factor.empty(); }
  bool outside(int64_t neuron, float z) const {
    return z < fold_.low[size_t(neuron)] || z > fold_.high[size_t(neuron)];
  }
  bool scores_above(int64_t neuron, float activated) const {
    return std::fabs(activated - fold_.slope[size_t(neuron)]) * fold_.factor[size_t(neuron)] > fold_.threshold;
  }
  float residual(const Neurons& neurons, int64_t row, int64_t n, float activation) const;

  LayerFold fold_;
  Activation activation_;
  std::vector<float> gate_bias_, up_bias_, down_bias_;
  PackedMatrix gate_, up_, down_, fold_weight_;
  LowBitMatrix predictor_;
};

// D [d, d] and e [d] with x D + e nearest to `missing` [rows, d] over the rows of x (ridge regression): what the fold
// leaves out of the unselected neurons' residuals, as far as it is linear in x. How much ridge is decided on every
// fourth row, which the others do not see; D is zero where no correction helps there.
struct FoldCorrection {
  Table weight;
  std::vector<float> bias;
};
FoldCorrection correct_fold(Context& ctx, const Table& x, const Table& missing);

}  // namespace pleat
