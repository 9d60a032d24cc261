#pragma once
// The fold of one layer (method.md equations 1 and 2): what is stored, and what it computes.
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
  LowBitRows predictor;                 // P [h, d]
  std::vector<float> low, high;         // of z~ [h]
  std::vector<float> slope, intercept;  // a, c [h]
};

// C = W1 diag(a) W2 and B = (b1 a + c) W2 + b2 of the lines in `lines` (its slope and intercept).
Table fold_weight(Context& ctx, const FfnTensors& ffn, const std::vector<float>& slope);
std::vector<float> fold_bias(const FfnTensors& ffn, const std::vector<float>& slope,
                             const std::vector<float>& intercept);

// Which sum an FFN output is: the dense one; fold and exact residuals; the fold alone; the exact neurons alone, nothing
// for the rest.
enum class FfnForm : uint8_t { dense, folded, alone, dropped };

// Computes a layer in all its forms for many rows, with the arithmetic of the exact weights in `format`.
class FoldedLayer {
 public:
  FoldedLayer(const FfnTensors& ffn, LayerFold fold, Activation activation, WeightFormat format);

  // z and z~ [rows, h].
  Table exact(Context& ctx, MatrixView<const float> x) const;
  Table predicted(Context& ctx, MatrixView<const float> x) const;
  // z, z~ as above, for the same rows as x.
  Table output(Context& ctx, FfnForm form, MatrixView<const float> x, const Table& z, const Table& z_predicted) const;
  Table output(Context& ctx, FfnForm form, MatrixView<const float> x) const {
    return output(ctx, form, x, exact(ctx, x), predicted(ctx, x));
  }

  bool outside(int64_t neuron, float z) const {
    return z < fold_.low[size_t(neuron)] || z > fold_.high[size_t(neuron)];
  }
  const LayerFold& fold() const { return fold_; }

 private:
  LayerFold fold_;
  Activation activation_;
  std::vector<float> up_bias_, down_bias_;
  PackedMatrix up_, down_, fold_weight_;
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
