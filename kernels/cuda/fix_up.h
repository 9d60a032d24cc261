#pragma once
// The exact part of a folded FFN on the device (method.md equation 2 and 3): the rows of up (and gate) and of down of
// the selected neurons alone are read, sums in f32.
#include <initializer_list>

#include "kernels/activation.h"
#include "kernels/cuda/prompt_choice.h"
#include "kernels/cuda/row_input.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/selection.h"

namespace pleat::cuda {

// What is known of each neuron [neurons] besides its rows: Residual and GatedLines on the device.
struct NeuronConstants {
  const float* up_bias = nullptr;    // nullptr: none
  const float* gate_bias = nullptr;  // gated FFNs
  DeviceLines lines;
};

// A layer's exact neurons. `gate` without rows: a plain FFN.
struct ExactFfn {
  Rows gate, up, down;  // [neurons, width]; down may be of another format, and protects rows, not inputs
  NeuronConstants constants;
  Activation activation = Activation::gelu;
};

// residuals [x.rows, neurons] of the selected neurons n, for the rows that n is selected for; 0 for others. What stands
// in places of neurons that no row selects is left as it is.
//   plain   z_n = x . up[n] + b1_n                            r_n = act(z_n) - (c z_n + f)
//   gated   u_n = x . up[n] + bu_n, g_n = x . gate[n] + bg_n  r_n = act(g_n) u_n - (c u_n + e g_n + f)
// x: quantised, if at all, for the inputs that up and gate protect.
void exact_residuals(StreamHandle stream, const RowInput& x, const ExactFfn& exact, const DeviceSelection& selection,
                     float* residuals);

// sums [matrices][shards][rows, width] = of each matrix w [neurons, width], of which all have one width, for each shard
// the sum over its selected neurons n of factors[row, n] w[n]; 0 where there are none. Rows in bf16 take factors in
// bf16. A row's bits depend on its own set alone, those of a column on that column.   factors [rows, neurons]
constexpr int kMaxAdded = 2;  // matrices
void add_exact_rows(StreamHandle stream, int rows, std::initializer_list<Rows> matrices, const Shards& shards,
                    const DeviceSelection& selection, const float* factors, float* sums);

}  // namespace pleat::cuda
