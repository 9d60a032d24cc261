#pragma once
// The fold of one layer (method.md equations 1 and 2): what is stored, and what it computes.
#include <cstdint>
#include <vector>

#include "core/fold/ffn_tensors.h"
#include "core/fold/gptq.h"
#include "core/fold/products.h"
#include "core/model/fold_spec.h"
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
  LayerFoldSpec spec{.selection = SelectionKind::range};
  StoredFold fold;                      // where spec.lines
  std::vector<float> bias;              // B [d]
  std::vector<float> slope, intercept;  // a, c [h]; gated: c, f; empty of selections all and static
  std::vector<float> gate_slope;        // e [h], where gated
  // Who is exact: see core/model/fold_spec.h
  LowBitRows predictor, gate_predictor;  // P [h, d]; gated: of up, and of gate
  std::vector<float> low, high;          // of z~ [h]
  std::vector<float> center, factor;     // of the score [h]
  float threshold = 0;                   // of the score
  float input_threshold = 0;             // of |x_i|, where spec.cuts_inputs
};

// C and B of the fold's lines (zeros and the FFN's bias where there are none): C = W1 diag(a) W2, B = (b1 a + c) W2 +
// b2; gated: C = Wu diag(c) Wd + Wg diag(e) Wd, B = (bu c + bg e + f) Wd + bd.
Table fold_weight(Context& ctx, const FfnTensors& ffn, const LayerFold& lines);
std::vector<float> fold_bias(const FfnTensors& ffn, const LayerFold& lines);

// Which sum an FFN output is: the dense one; fold and exact residuals; the fold alone; the exact neurons alone, nothing
// for the rest.
enum class FfnForm : uint8_t { dense, folded, alone, dropped };

// How rows belong to sequences: blocks of `rows` (0: all are one), each beginning with `prompt` rows of a prompt.
struct RowBlocks {
  int64_t rows = 0;
  int64_t prompt = 1;
};

// x with 0 where |x_i| is not above the threshold.
Table cut_inputs(MatrixView<const float> x, float threshold);

// Computes a layer in all its forms for many rows, with the arithmetic of the exact weights in `format`.
//   ffn: the neurons that the layer keeps.
class FoldedLayer {
 public:
  FoldedLayer(const FfnTensors& ffn, LayerFold fold, Activation activation, WeightFormat format);
  const LayerFoldSpec& spec() const { return fold_.spec; }
  float input_threshold() const { return fold_.input_threshold; }

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
  // densely: inputs are not cut.
  Neurons neurons(Context& ctx, MatrixView<const float> x, RowBlocks blocks = {}, bool densely = false) const;
  // neurons: of the same rows as x.
  Table output(Context& ctx, FfnForm form, MatrixView<const float> x, const Neurons& neurons) const;
  Table output(Context& ctx, FfnForm form, MatrixView<const float> x) const {
    return output(ctx, form, x, neurons(ctx, x, {}, form == FfnForm::dense));
  }

 private:
  bool gated() const { return gate_.outputs() > 0; }
  void select(Context& ctx, MatrixView<const float> x, RowBlocks blocks, Neurons& neurons) const;
  void select_by_range(Context& ctx, MatrixView<const float> x, Neurons& neurons) const;
  void select_by_score(MatrixView<const float> activated, Neurons& neurons) const;
  void select_by_predictors(Context& ctx, MatrixView<const float> x, Neurons& neurons) const;
  void select_by_prompt(Context& ctx, RowBlocks blocks, Neurons& neurons) const;
  float residual(const Neurons& neurons, int64_t row, int64_t n, float activation) const;

  LayerFold fold_;
  Activation activation_;
  std::vector<float> gate_bias_, up_bias_, down_bias_;
  PackedMatrix gate_, up_, down_, fold_weight_;
  LowBitMatrix predictor_, gate_predictor_;
};

// Whose magnitude selection threshold compares: act(g), with cut inputs act(g) u; of plain neurons act(z).   [rows, h]
Table threshold_values(Context& ctx, const FoldedLayer::Neurons& neurons, Activation activation, bool cuts_inputs);

// What a layer's lines are made into.
struct FoldForm {
  WeightFormat format = WeightFormat::int8;  // of C
  bool lines = true;                         // false: none; who is not exact is left out
  const Table* wanted = nullptr;  // [sample rows, d] what the layer should give; nullptr: ffn's own dense output. ffn's
                                  // values are those of bf16 weights in the one case, of low-bit ones in the other
  RowBlocks blocks = {};          // of the sample
};

// C and B of the lines, corrected by a ridge regression of what is missing on the sample.
void finish_fold(Context& ctx, const FfnTensors& ffn, Activation activation, const Table& sample, const FoldForm& form,
                 LayerFold& lines);

// Neurons in another order.
LayerFold reordered(const LayerFold& fold, std::span<const int32_t> order);

// D [d, d] and e [d] with x D + e nearest to `missing` [rows, d] over the rows of x (ridge regression): what the fold
// leaves out of the unselected neurons' residuals, as far as it is linear in x. How much ridge is decided on every
// fourth row, which the others do not see; D is zero where no correction helps there.
struct FoldCorrection {
  Table weight;
  std::vector<float> bias;
};
FoldCorrection correct_fold(Context& ctx, const Table& x, const Table& missing);

}  // namespace pleat
