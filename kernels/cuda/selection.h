#pragma once
// Who is computed exactly, S(x) of a few rows, found and kept on the device: no size of it reaches the host.
#include <span>

#include "kernels/activation.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/row_input.h"

namespace pleat::cuda {

// The union of the rows' sets, in bins of neighbouring neurons. The order is fixed: ascending in each bin.
struct SelectionView {
  const int32_t* bin_offsets = nullptr;  // [bins + 1] first neuron of each bin
  int bins = 0;
  int32_t* neuron = nullptr;  // [neurons] bin b's selected ones from bin_offsets[b] on
  uint32_t* rows = nullptr;   // [neurons] of every neuron: bit r where row r computes it exactly
  int32_t* count = nullptr;   // [bins]
};

class DeviceSelection {
 public:
  // bin_offsets: ascending, from 0, closed by the number of neurons. Bins are what blocks of exact_residuals() share
  // out.
  DeviceSelection(std::span<const int32_t> bin_offsets, const Stream& stream);
  SelectionView view() const;
  int neurons() const { return neurons_; }
  int64_t selected(const Stream& stream) const;  // of the union; waits for the stream

 private:
  int neurons_;
  DeviceArray<int32_t> bin_offsets_, neuron_, count_;
  DeviceArray<uint32_t> rows_;
};

// All replace the selection's content. Values are [rows, neurons], rows <= kMaxRows.

// z~ outside [low, high] (predict_selection() in kernels/predictor.h).   low, high [neurons]
void select_by_range(StreamHandle stream, int rows, const float* z, const float* low, const float* high,
                     const DeviceSelection& selection);

// |act(g) - center| factor > threshold (select_by_gate() in kernels/neuron_rows.h).   activated: act(g)
void select_by_gate(StreamHandle stream, int rows, const float* activated, const float* center, const float* factor,
                    float threshold, const DeviceSelection& selection);

// A gated neuron's line, e and f included: GatedLines on the device.
struct DeviceLines {
  const float* up_slope = nullptr;    // c [neurons]
  const float* gate_slope = nullptr;  // e [neurons]; nullptr where the FFN is plain
  const float* intercept = nullptr;   // f [neurons]
};

// |act(g) u - (c u + e g + f)| factor > threshold (select_by_residual()).   up, gate: predictions of u and g
void select_by_residual(StreamHandle stream, int rows, const float* up, const float* gate, Activation activation,
                        const DeviceLines& lines, const float* factor, float threshold,
                        const DeviceSelection& selection);

// |value| > threshold, or NaN (select_by_magnitude() in kernels/neuron_rows.h).
void select_by_magnitude(StreamHandle stream, int rows, const float* values, float threshold,
                         const DeviceSelection& selection);

// Of neurons that are known but for their down rows: |act(z)| > threshold, of gated ones |act(g) u|, or NaN.
// residuals [rows, neurons] of who is selected, for the rows that select it: act(z), or act(g) u, less its line.
//   up: z or u; gate: g, or nullptr where the FFN is plain
void select_known(StreamHandle stream, int rows, const float* up, const float* gate, Activation activation,
                  const DeviceLines& lines, float threshold, const DeviceSelection& selection, float* residuals);

// What each row's slot holds (kernels/cuda/prompt_choice.h).   slots [rows]; chosen [slots, neurons] 0 or 1
void select_chosen(StreamHandle stream, int rows, const int32_t* slots, const uint8_t* chosen,
                   const DeviceSelection& selection);

}  // namespace pleat::cuda
