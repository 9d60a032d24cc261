#pragma once
// Random numbers on the host and on the device: weights, there several times, and x as the kernels see it.
#include <cstdint>
#include <vector>

#include "kernels/cuda/rows.h"
#include "kernels/neuron_rows.h"
#include "lab.h"

namespace pleat::lab {

std::vector<float> random_values(size_t count, uint32_t seed, float scale = 1);
std::vector<float> positive_values(int count, uint32_t seed);  // about 1

// Here and on the device.
struct Values {
  Values(const Lab& lab, std::vector<float> values) : host(std::move(values)), device(host, lab.stream()) {}
  double operator[](int64_t i) const { return host[size_t(i)]; }
  const float* data() const { return device.data(); }
  std::vector<float> host;
  cuda::DeviceArray<float> device;
};

class Matrix {
 public:
  // [rows, width] of numbers about 0.02.
  Matrix(const Lab& lab, WeightFormat format, int rows, int width, uint32_t seed);

  cuda::Rows on_device(int call) const { return copies_[size_t(call) % copies_.size()].view(); }
  int64_t bytes() const { return copies_[0].bytes(); }
  int rows() const { return int(host_.neurons()); }
  int width() const { return int(host_.width()); }
  std::vector<float> row(int index) const;  // [width] as f32
  // x [width] times row `index`, inputs [begin, end), with x rounded or quantised as the format asks for.
  Sum times(const float* x, int index, int begin, int end) const;
  Sum times(const float* x, int index) const { return times(x, index, 0, width()); }

 private:
  NeuronRows host_;
  std::vector<cuda::DeviceRows> copies_;
};

// Empty where `samples` of the products y [rows, w.rows()] of x [rows, w.width()] are right within `ulps` units in the
// last place of their terms' sum; else what is wrong.
std::string compare_products(const Matrix& w, const std::vector<float>& x, const std::vector<float>& y, int rows,
                             int samples, double ulps);

std::string shape_of(const char* what, WeightFormat format, const Matrix& w, int rows);

}  // namespace pleat::lab
