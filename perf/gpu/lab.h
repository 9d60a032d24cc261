#pragma once
// The kernel lab: every kernel of kernels/cuda, first compared with plain loops, then timed at a size that models have.
#include <functional>
#include <string>
#include <vector>

#include "kernels/cuda/device.h"

namespace pleat::lab {

// One measurement.
struct Entry {
  std::string kernel, shape;
  double bytes = 0;  // that a call must read and write, each once
  double flops = 0;  // 0: not what it is about
  // Empty where the first call's results are right, else what is not.
  std::function<std::string()> check;
  // Enqueues call number i. Weights take turns by it, so that no cache holds them.
  std::function<void(cuda::StreamHandle, int)> call;
};

class Lab {
 public:
  // tiny: sizes for the emulator, each entry called once.
  explicit Lab(bool tiny);

  bool tiny() const { return tiny_; }
  int size(int real, int small) const { return tiny_ ? small : real; }
  const cuda::Stream& stream() const { return stream_; }
  // Copies of a matrix of so many bytes that together outgrow a device's caches.
  int copies(int64_t bytes) const;

  template <class T>
  std::vector<T> read(const T* from, size_t count) const {
    std::vector<T> values(count);
    cuda::copy_to_host(values.data(), from, count * sizeof(T), stream_.get());
    stream_.wait();
    return values;
  }

  // Calls, checks and times the entry, and prints it as a line of JSON. A kernel that fails does not end the lab.
  void measure(const Entry& entry);
  // Prints a time, of work that the lab does not call itself.
  void report(const Entry& entry, const std::string& wrong, double microseconds);
  int failures() const { return failures_; }

 private:
  double microseconds(const Entry& entry);

  bool tiny_;
  cuda::Stream stream_;
  double copy_bandwidth_ = 0;  // bytes/s read and written
  int failures_ = 0;
};

// The sum over k of x[k] w[k], and how far sums in f32 may be from it.
struct Sum {
  double value = 0, magnitude = 0;
  void add(double x, double w);
  // "" or "element 7 is 1.5, expected 1.25".   roundings: of f32, relative to the terms' magnitudes
  std::string compare(double got, double roundings, int element) const;
};

// The same, of one after the other.
template <class T>
std::string compare_sums(const std::vector<T>& got, const std::vector<Sum>& expected, double roundings) {
  for (size_t i = 0; i < expected.size(); ++i)
    if (std::string wrong = expected[i].compare(double(got[i]), roundings, int(i)); !wrong.empty()) return wrong;
  return "";
}

// Entries by family.
void products(Lab& lab);
void planes(Lab& lab);
void prompts(Lab& lab);
void folds(Lab& lab);
void selections(Lab& lab);
void choices(Lab& lab);
void cut_inputs(Lab& lab);
void attentions(Lab& lab);
void channels(Lab& lab);
void rows(Lab& lab);
void sums(Lab& lab);

}  // namespace pleat::lab
