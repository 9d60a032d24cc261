#pragma once
#include "kernels/dtype.h"
#include "kernels/vector_ops.h"

namespace pleat {

// R dot products with the same weights. Columns are dealt to 4 x 16 lanes, whatever R.
template <class Lanes, int R, class Element>
void dot_rows(const float* const* x, const Element* weights, const Element* next, int64_t n, float* out) {
  using F = typename Lanes::F;
  F sum[R][4];
  for (int r = 0; r < R; ++r)
    for (int j = 0; j < 4; ++j) sum[r][j] = Lanes::set1(0.0f);
  int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
    for (int64_t ahead = 0; ahead < 64; ahead += 64 / int64_t(sizeof(Element))) Lanes::prefetch(next + i + ahead);
    for (int j = 0; j < 4; ++j) {
      const F weight = Lanes::load(weights + i + 16 * j);
      for (int r = 0; r < R; ++r) sum[r][j] = Lanes::fma(Lanes::load(x[r] + i + 16 * j), weight, sum[r][j]);
    }
  }
  for (int j = 0; i < n; i += 16, ++j) {
    const int64_t count = n - i < 16 ? n - i : 16;
    const F weight = Lanes::load_part(weights + i, count);
    for (int r = 0; r < R; ++r) sum[r][j] = Lanes::fma(Lanes::load_part(x[r] + i, count), weight, sum[r][j]);
  }
  for (int r = 0; r < R; ++r)
    out[r] = Lanes::sum(Lanes::add(Lanes::add(sum[r][0], sum[r][1]), Lanes::add(sum[r][2], sum[r][3])));
}

template <class Lanes, class Element>
void neuron_dots(const NeuronDots& task) {
  const Element* weights = static_cast<const Element*>(task.weights);
  const Element* next = static_cast<const Element*>(task.next);
  float* out = task.out;
  const float* x[4];
  int waiting = 0;
  for (uint32_t rows = task.rows; rows != 0; rows &= rows - 1) {
    x[waiting++] = task.x + __builtin_ctz(rows) * task.stride;
    if (waiting == 4) {
      dot_rows<Lanes, 4>(x, weights, next, task.width, out);
      out += 4;
      waiting = 0;
    }
  }
  for (int r = 0; r < waiting; ++r) dot_rows<Lanes, 1>(x + r, weights, next, task.width, out + r);
}

template <class Lanes>
void neuron_dots_kernel(const NeuronDots& task) {
  if (task.dtype == DType::f32) return neuron_dots<Lanes, float>(task);
  neuron_dots<Lanes, bf16>(task);
}

template <class Lanes, class Element>
void add_neuron(const AddNeuron& task) {
  const Element* weights = static_cast<const Element*>(task.weights);
  const Element* next = static_cast<const Element*>(task.next);
  const float* factor = task.factors;
  for (int64_t i = 0; i < task.width; i += 64 / int64_t(sizeof(Element))) Lanes::prefetch(next + i);
  for (uint32_t rows = task.rows; rows != 0; rows &= rows - 1) {
    const auto scale = Lanes::set1(*factor++);
    float* out = task.out + __builtin_ctz(rows) * task.stride;
    int64_t i = 0;
    for (; i + 16 <= task.width; i += 16)
      Lanes::store(out + i, Lanes::fma(scale, Lanes::load(weights + i), Lanes::load(out + i)));
    if (const int64_t rest = task.width - i; rest > 0) {
      const auto sum = Lanes::fma(scale, Lanes::load_part(weights + i, rest), Lanes::load_part(out + i, rest));
      Lanes::store_part(out + i, sum, rest);
    }
  }
}

template <class Lanes>
void add_neuron_kernel(const AddNeuron& task) {
  if (task.dtype == DType::f32) return add_neuron<Lanes, float>(task);
  add_neuron<Lanes, bf16>(task);
}

}  // namespace pleat
