#pragma once
// The exact part of a folded FFN on the device (method.md equation 2 and 3): the selected neurons' rows of up (and
// gate) and of down are read in one pass, sums in f32.
#include "kernels/activation.h"
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

// parts [bins][x.rows, width] = for each bin of the selection the sum over its neurons n, ascending, of r_n(row)
// down[n] for the rows that n is selected for; 0 where there are none.
//   plain   z_n = x . up[n] + b1_n                            r_n = act(z_n) - (c z_n + f)
//   gated   u_n = x . up[n] + bu_n, g_n = x . gate[n] + bg_n  r_n = act(g_n) u_n - (c u_n + e g_n + f)
// A row's bits depend on its own set alone. x: quantised, if at all, for the inputs that up and gate protect. down may
// be of another format; it protects rows, not inputs.
void fix_up(StreamHandle stream, const RowInput& x, const Rows& up, const Rows& down, const NeuronConstants& constants,
            Activation activation, const DeviceSelection& selection, float* parts);
void fix_up_gated(StreamHandle stream, const RowInput& x, const Rows& gate, const Rows& up, const Rows& down,
                  const NeuronConstants& constants, Activation activation, const DeviceSelection& selection,
                  float* parts);

}  // namespace pleat::cuda
