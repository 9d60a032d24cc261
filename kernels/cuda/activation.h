#pragma once
// Element-wise activations of kernels/activation.h, on the device.

#include "kernels/activation.h"
#include "kernels/cuda/device.h"
#include "kernels/tensor.h"

namespace pleat::cuda {

// x [rows, cols] in place, rows and cols from 1.
void activate(StreamHandle stream, Activation activation, MatrixView<float> x);

// up = activation(gate) * up, element by element (SwiGLU, GeGLU); both [rows, cols]. gate stays as it is.
void activate_gated(StreamHandle stream, Activation activation, MatrixView<const float> gate, MatrixView<float> up);

// x = cap tanh(x / cap), element by element of x [rows, cols] (Gemma 2, https://arxiv.org/abs/2408.00118).
void soft_cap(StreamHandle stream, float cap, MatrixView<float> x);

}  // namespace pleat::cuda
