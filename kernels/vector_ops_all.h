#pragma once
// Fills the table of one instruction set.
#include "kernels/activation_kernel.h"
#include "kernels/attention_kernel.h"
#include "kernels/fix_up_kernel.h"
#include "kernels/layer_norm_kernel.h"
#include "kernels/low_bit_kernel.h"
#include "kernels/low_bit_row_kernel.h"
#include "kernels/low_bit_sum_kernel.h"
#include "kernels/planes_kernel.h"
#include "kernels/quantise_kernel.h"
#include "kernels/stream_read_kernel.h"
#include "kernels/vector_ops.h"

namespace pleat {

template <class Lanes>
constexpr VectorOps vector_ops_of() {
  VectorOps ops{};
  ops.activate = activate_kernel<Lanes>;
  ops.soft_cap = soft_cap_kernel<Lanes>;
  ops.multiply_row = multiply_kernel<Lanes>;
  ops.rms_norm_row = rms_norm_kernel<Lanes>;
  ops.layer_norm_row = layer_norm_kernel<Lanes>;
  ops.add_row = add_kernel<Lanes>;
  ops.to_bf16 = to_bf16_kernel<Lanes>;
  ops.round_to_bf16 = round_to_bf16_kernel<Lanes>;
  ops.attend = attention_kernel<Lanes>;
  ops.neuron_dots = neuron_dots_kernel<Lanes>;
  ops.add_neuron = add_neuron_kernel<Lanes>;
  ops.low_bit_dots = low_bit_dots_kernel<Lanes>;
  ops.add_low_bit = add_low_bit_kernel<Lanes>;
  ops.unpack_low_bit = unpack_low_bit_kernel<Lanes>;
  ops.quantise = quantise_kernel<Lanes>;
  ops.low_bit_block = low_bit_kernel<Lanes>;
  ops.planes_block = planes_kernel<Lanes>;
  ops.stream_sum = stream_sum_kernel<Lanes>;
  return ops;
}

}  // namespace pleat
