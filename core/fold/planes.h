#pragma once
// GPTQ (arXiv 2210.17323, gptq_columns.h) with binary-coded planes whose scales are fitted inside its loop
// (ShiftAddLLM, arXiv 2406.05981): on the weights as compensated when their turn comes.
#include <cstdint>
#include <vector>

#include "core/fold/products.h"
#include "kernels/planes.h"

namespace pleat {

// [rows, inputs] as checkpoints store it (kernels/planes.h).
struct PlaneRows {
  int planes = 2;
  PlaneScales kind = PlaneScales::column;
  int64_t rows = 0, inputs = 0;
  std::vector<uint8_t> codes;             // [rows, ceil(inputs * planes / 8)]
  std::vector<uint8_t> scales;            // column [ceil(rows / 64), inputs * planes], block [ceil(rows / 8),
                                          // ceil(inputs / 8) * planes]
  std::vector<int8_t> exponents;          // [ceil(rows / 64), ceil(inputs / 64)]
  std::vector<int32_t> protected_inputs;  // held in bf16 instead, ascending
  std::vector<bf16> protected_weights;    // [rows, protected inputs]

  PlaneRows() = default;
  PlaneRows(int planes, PlaneScales kind, int64_t rows, int64_t inputs);
  int64_t code_bytes() const { return (inputs * planes + 7) / 8; }  // of a row
  int64_t groups() const { return (inputs + kGroup - 1) / kGroup; }
  int64_t scale_rows() const;                       // rows of `scales`
  int64_t scale_bytes() const;                      // of such a row
  uint8_t* scales_of(int64_t row, int64_t input) {  // [planes]
    return scales.data() + scale_place(row, input);
  }
  int code(int64_t row, int64_t input) const;
  void set_code(int64_t row, int64_t input, int code);  // over a zero
  float value(int64_t row, int64_t input) const;
  PlanesMatrix packed(int64_t begin, int64_t end) const;  // rows [begin, end)

 private:
  int64_t scale_place(int64_t row, int64_t input) const;
};

// w [rows, d]; second_moment [d, d] = sum of x x^T (empty: no error is compensated).
//   e: made for 64 rows and 64 inputs when the first of these columns' turn comes, so that the largest weights, but for
//   those that stand out of their column, fit.
//   column: columns with the largest second moment first; a column's scales are fitted when its turn comes.
//   block: blocks of 8 columns, those with the largest second moments first, in their own order inside; a block's
//   scales are fitted when its first column's turn comes, with errors weighed by what they will cost in each column.
// protected_inputs: rounded to bf16 only, and out of the fits.
PlaneRows quantise_planes(Context& ctx, MatrixView<const float> w, const std::vector<double>& second_moment, int planes,
                          PlaneScales kind, std::vector<int32_t> protected_inputs = {});

}  // namespace pleat
