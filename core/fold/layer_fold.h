#pragma once
// The fold of one layer (method.md equations 1 and 2): what is stored, and what it computes.
#include <cstdint>
#include <vector>

#include "core/fold/ffn_tensors.h"
#include "core/fold/gptq.h"
#include "core/fold/products.h"
#include "kernels/activation.h"

namespace pleat {

// C [d, d] in its stored form.
struct StoredFold {
  WeightFormat format = WeightFormat::int8;
  LowBitRows rows;           // int8: an output a row
  std::vector<bf16> weight;  // bf16: [in, out]
  Table value;               // what the stored numbers mean, [in, out]
};
StoredFold store_fold(Context& ctx, const Table& c, WeightFormat format);

struct LayerFold {
  StoredFold fold;
  std::vector<float> bias;              // B [d]
  std::vector<float> slope, intercept;  // a, c [h]; gated: c, f
  // Selection by range:
  LowBitRows predictor;          // P [h, d]; gated: of up
  std::vector<float> low, high;  // of z~ [h]
  // Gated, selection by the exact gate (no predictors) or by predictors:
  LowBitRows gate_predictor;              // [h, d]
  std::vector<float> gate_slope, factor;  // e, and what an error costs [h]
  float threshold = 0;                    // of the score
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

  // The neurons of some rows and who of them is exact, computed once for several forms.
  struct Neurons {
    Table up;                       // z, or u [rows, h]
    Table gate;                     // g [rows, h] where gated
    Table activated;                // act(g) [rows, h] where gated
    std::vector<uint8_t> selected;  // [rows, h] computed exactly at run time
    std::vector<uint8_t> wanted;    // [rows, h] would be, if the predictor made no errors
    bool is_selected(int64_t row, int64_t n) const { return selected[size_t(row * up.cols + n)] != 0; }
    bool is_wanted(int64_t row, int64_t n) const { return wanted[size_t(row * up.cols + n)] != 0; }
  };
  Neurons neurons(Context& ctx, MatrixView<const float> x) const;
  // neurons: of the same rows as x.
  Table output(Context& ctx, FfnForm form, MatrixView<const float> x, const Neurons& neurons) const;
  Table output(Context& ctx, FfnForm form, MatrixView<const float> x) const {
    return output(ctx, form, x, neurons(ctx, x));
  }

 private:
  bool gated() const { return !fold_.factor.empty(); }
  void select_by_range(Context& ctx, MatrixView<const float> x, Neurons& neurons) const;
  void select_by_gate(Neurons& neurons) const;
  void select_by_predictors(Context& ctx, MatrixView<const float> x, Neurons& neurons) const;
  float residual(const Neurons& neurons, int64_t row, int64_t n, float activation) const;

  LayerFold fold_;
  Activation activation_;
  std::vector<float> gate_bias_, up_bias_, down_bias_;
  PackedMatrix gate_, up_, down_, fold_weight_;
  LowBitMatrix predictor_, gate_predictor_;
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
