#pragma once
// Element-wise activations, in f32. gelu is the erf form, gelu_new the tanh form, silu x / (1 + exp(-x)) (Hugging
// Face's names; its gelu_pytorch_tanh and gelu_fast are gelu_new too, swish is silu).
#include <cstdint>
#include <string_view>

#include "kernels/tensor.h"

namespace pleat {

class Context;
enum class Isa : int;

enum class Activation : uint8_t { gelu, gelu_new, relu, silu };

// nullopt-free: Error(invalid) naming the activation and those known.
Activation activation_from_name(std::string_view name);
std::string_view name_of(Activation activation);

// x [rows, cols] in place. Bits depend on the element alone.
void activate(Context& ctx, Activation activation, MatrixView<float> x);
// The same function, element by element, on the calling thread (calibration, fix-up).
void activate(Isa isa, Activation activation, float* x, int64_t n);

// up = activation(gate) * up, element by element (SwiGLU, GeGLU); both [rows, cols]. gate is left activated.
void activate_gated(Context& ctx, Activation activation, MatrixView<float> gate, MatrixView<float> up);

// x = cap tanh(x / cap), in place (Gemma 2's soft capping of logits).
void soft_cap(Context& ctx, float cap, MatrixView<float> x);

}  // namespace pleat
