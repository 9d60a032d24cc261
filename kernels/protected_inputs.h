#pragma once
// A few inputs with extreme activations, held in bf16 beside a matrix in low bits and left out of the groups' scales
// (method.md section 5, the trap). What matrices in low bits have in common.
#include <cstdint>
#include <vector>

#include "kernels/buffer.h"
#include "kernels/dtype.h"
#include "kernels/tensor.h"

namespace pleat {

constexpr int64_t kGroup = 64;        // inputs that share a scale in int8 and low-bit formats
constexpr int64_t kOutputBlock = 16;  // outputs packed side by side

class ProtectedInputs {
 public:
  ProtectedInputs() = default;
  ProtectedInputs(int64_t outputs, int64_t inputs) : outputs_(outputs), inputs_(inputs) {}

  // Ascending; once, before pack_protected().
  void protect(std::vector<int32_t> inputs);
  const std::vector<int32_t>& protected_inputs() const { return protected_; }
  // values [rows, stride >= protected inputs] of outputs from `output` on.
  void pack_protected(int64_t output, int64_t rows, const bf16* values, int64_t stride);

  // [groups], or empty: bit i stands for the group's input i.
  const std::vector<uint64_t>& protected_masks() const { return protected_masks_; }
  // y [x.rows, stride]: y[row][n] += x[row][k] * weight for the protected inputs k from `begin` to `end`, ascending, of
  // outputs [output, output + count).
  void add_protected(MatrixView<const float> x, int64_t begin, int64_t end, int64_t output, int64_t count, float* y,
                     int64_t stride) const;
  // Puts output `output`'s protected weights in their places among all [inputs].
  void protected_row(int64_t output, float* values) const;

  int64_t outputs() const { return outputs_; }
  int64_t inputs() const { return inputs_; }
  size_t protected_bytes() const { return protected_weights_.bytes(); }

 private:
  // bf16 [blocks of 16 outputs][protected inputs][16]
  bf16* place(int64_t output) const {
    return protected_weights_.as<bf16>() + output / kOutputBlock * int64_t(protected_.size()) * kOutputBlock +
           output % kOutputBlock;
  }
  int64_t outputs_ = 0, inputs_ = 0;
  std::vector<int32_t> protected_;
  std::vector<uint64_t> protected_masks_;
  Buffer protected_weights_;
};

}  // namespace pleat
