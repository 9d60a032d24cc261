#pragma once
// Small random layers for the tests of folding.
#include <random>

#include "core/fold/ffn_tensors.h"
#include "core/fold/gptq.h"

namespace pleat {

inline Table random_table(int64_t rows, int64_t cols, double deviation, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal(0, deviation);
  Table out(rows, cols);
  for (float& value : out.data) value = float(normal(random));
  return out;
}

inline FfnTensors random_ffn(int64_t hidden, int64_t neurons, uint64_t seed = 1) {
  FfnTensors out;
  out.up = random_table(neurons, hidden, 1 / std::sqrt(double(hidden)), seed);
  out.down = random_table(neurons, hidden, 1 / std::sqrt(double(neurons)), seed + 1);
  out.up_bias = random_table(1, neurons, 0.5, seed + 2).data;
  out.down_bias = random_table(1, hidden, 0.5, seed + 3).data;
  return out;
}

// Rows with strongly correlated inputs, as a model's are.
inline Table correlated_rows(int64_t rows, int64_t cols, uint64_t seed) {
  const Table mixing = random_table(cols / 8, cols, 1, seed), noise = random_table(rows, cols, 0.1, seed + 1),
              sources = random_table(rows, cols / 8, 1, seed + 2);
  Table out(rows, cols);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < cols; ++i) {
      double sum = noise[row][i];
      for (int64_t k = 0; k < mixing.rows; ++k)
        sum += double(sources[row][k]) * mixing[k][i] / std::sqrt(double(mixing.rows));
      out[row][i] = float(sum);
    }
  }
  return out;
}

inline std::vector<double> second_moment_of(const Table& x) {
  std::vector<double> out(size_t(x.cols * x.cols));
  for (int64_t row = 0; row < x.rows; ++row) {
    for (int64_t i = 0; i < x.cols; ++i) {
      for (int64_t k = 0; k < x.cols; ++k) out[size_t(i * x.cols + k)] += double(x[row][i]) * x[row][k];
    }
  }
  return out;
}

inline double gelu_new(double z) { return 0.5 * z * (1 + std::tanh(std::sqrt(2 / M_PI) * (z + 0.044715 * z * z * z))); }

}  // namespace pleat
