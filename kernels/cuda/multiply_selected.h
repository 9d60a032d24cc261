#pragma once
// Products of a few rows of x with matrices that stand by input, of which a row sees the inputs selected for it alone:
// rows of the matrix that nobody selects are not read (TEAL, arXiv 2408.14690).
#include <initializer_list>
#include <optional>
#include <vector>

#include "kernels/activation.h"
#include "kernels/cuda/fix_up.h"

namespace pleat::cuda {

// The bins of a selection of inputs: products are summed by them.
std::vector<int32_t> input_bins(int inputs);

struct SelectedProduct {
  Rows w;                       // [inputs, outputs]
  const float* bias = nullptr;  // [outputs] or nullptr
  float* y = nullptr;           // [rows, outputs]
  std::optional<Activation> activation{};
};

// y[r, n] = act(bias[n] + sum over the inputs i that row r selects of x[r, i] w[i, n]), of up to kMaxAdded products
// with as many outputs each. Rows in bf16 take x in bf16. The bits of an element depend on its row of x and its column
// of w, not on other rows, nor on where the columns begin, in low bits at a multiple of 64.
//   x [rows, inputs]; work [selected_work(...)]
void multiply_selected(StreamHandle stream, int rows, const float* x, std::initializer_list<SelectedProduct> products,
                       const DeviceSelection& selection, float* work);
size_t selected_work(int rows, int inputs, int outputs, int products);

}  // namespace pleat::cuda
