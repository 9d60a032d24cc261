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
  for (int j = 0; j < 4; ++j) {
    const int64_t left = n - (i + 16 * j), count = left < 16 ? left : 16;
    if (left <= 0) break;
    const F weight = Lanes::load_part(weights + i + 16 * j, count);
    for (int r = 0; r < R; ++r) sum[r][j] = Lanes::fma(Lanes::load_part(x[r] + i + 16 * j, count), weight, sum[r][j]);
  }
  for (int r = 0; r < R; ++r)
    out[r] = Lanes::sum(Lanes::add(Lanes::add(sum[r][0], sum[r][1]), Lanes::add(sum[r][2], sum[r][3])));
}

// out[r] += factors[r] * weights for R rows, while the next neuron's piece is on its way.
template <class Lanes, int R, class Element>
void add_rows(float* const* out, const float* factors, const Element* weights, const Element* next, int64_t n) {
  using F = typename Lanes::F;
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    if (i % (64 / int64_t(sizeof(Element))) == 0) Lanes::prefetch(next + i);
    const F weight = Lanes::load(weights + i);
    for (int r = 0; r < R; ++r)
      Lanes::store(out[r] + i, Lanes::fma(Lanes::set1(factors[r]), weight, Lanes::load(out[r] + i)));
  }
  if (const int64_t rest = n - i; rest > 0) {
    const F weight = Lanes::load_part(weights + i, rest);
    for (int r = 0; r < R; ++r)
      Lanes::store_part(out[r] + i, Lanes::fma(Lanes::set1(factors[r]), weight, Lanes::load_part(out[r] + i, rest)),
                        rest);
  }
}

// Calls four(rows, k) for each four set bits of the mask and one(row, k) for those left; k counts the bits before them.
template <class Row, class Four, class One>
void for_set_bits(uint32_t mask, Row row_at, Four four, One one) {
  decltype(row_at(0)) rows[4];
  int waiting = 0, done = 0;
  for (; mask != 0; mask &= mask - 1) {
    rows[waiting++] = row_at(__builtin_ctz(mask));
    if (waiting < 4) continue;
    four(rows, done);
    done += 4;
    waiting = 0;
  }
  for (int r = 0; r < waiting; ++r) one(rows + r, done + r);
}

template <class Lanes, class Element>
void neuron_dots(const NeuronDots& task) {
  const Element* weights = static_cast<const Element*>(task.weights);
  const Element* next = static_cast<const Element*>(task.next);
  for_set_bits(
      task.rows, [&](int row) { return task.x + row * task.stride; },
      [&](const float* const* x, int k) { dot_rows<Lanes, 4>(x, weights, next, task.width, task.out + k); },
      [&](const float* const* x, int k) { dot_rows<Lanes, 1>(x, weights, next, task.width, task.out + k); });
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
  for_set_bits(
      task.rows, [&](int row) { return task.out + row * task.stride; },
      [&](float* const* out, int k) { add_rows<Lanes, 4>(out, task.factors + k, weights, next, task.width); },
      [&](float* const* out, int k) { add_rows<Lanes, 1>(out, task.factors + k, weights, next, task.width); });
}

template <class Lanes>
void add_neuron_kernel(const AddNeuron& task) {
  if (task.dtype == DType::f32) return add_neuron<Lanes, float>(task);
  add_neuron<Lanes, bf16>(task);
}

}  // namespace pleat
