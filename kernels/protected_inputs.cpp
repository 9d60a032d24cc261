#include "kernels/protected_inputs.h"

#include <algorithm>

#include "kernels/check.h"

namespace pleat {

void ProtectedInputs::protect(std::vector<int32_t> inputs) {
  PLEAT_ASSERT(protected_.empty() && std::is_sorted(inputs.begin(), inputs.end()));
  PLEAT_ASSERT(inputs.empty() || (inputs.front() >= 0 && inputs.back() < inputs_));
  if (inputs.empty()) return;
  protected_ = std::move(inputs);
  protected_masks_.assign(size_t((inputs_ + kGroup - 1) / kGroup), 0);
  for (const int32_t input : protected_) protected_masks_[size_t(input / kGroup)] |= uint64_t(1) << input % kGroup;
  const int64_t blocks = (outputs_ + kOutputBlock - 1) / kOutputBlock;
  protected_weights_ = Buffer(size_t(blocks * kOutputBlock) * protected_.size() * sizeof(bf16));
}

void ProtectedInputs::pack_protected(int64_t output, int64_t rows, const bf16* values, int64_t stride) {
  PLEAT_ASSERT(output >= 0 && output + rows <= outputs_ && stride >= int64_t(protected_.size()));
  for (int64_t row = 0; row < rows; ++row) {
    bf16* const to = place(output + row);
    for (size_t i = 0; i < protected_.size(); ++i) to[int64_t(i) * kOutputBlock] = values[row * stride + int64_t(i)];
  }
}

void ProtectedInputs::add_protected(MatrixView<const float> x, int64_t begin, int64_t end, int64_t output,
                                    int64_t count, float* y, int64_t stride) const {
  for (size_t i = 0; i < protected_.size(); ++i) {
    if (protected_[i] < begin || protected_[i] >= end) continue;
    for (int64_t row = 0; row < x.rows; ++row)
      for (int64_t n = 0; n < count; ++n)
        y[row * stride + n] += x[row][protected_[i]] * to_f32(place(output + n)[int64_t(i) * kOutputBlock]);
  }
}

void ProtectedInputs::protected_row(int64_t output, float* values) const {
  for (size_t i = 0; i < protected_.size(); ++i)
    values[protected_[i]] = to_f32(place(output)[int64_t(i) * kOutputBlock]);
}

}  // namespace pleat
