#pragma once
// Where sums of products go. Included by .cu files only.
#include <algorithm>

#include "kernels/cuda/activate.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/shared_memory.h"

namespace pleat::cuda {

struct GemmOutput {
  const float* bias;
  float* y;
  int64_t stride;
  int rows, outputs;
  bool activates;
  Activation activation;
  Leaves leaves;
  float* work;

  GemmOutput(const GemmProduct& product)
      : bias(product.bias),
        y(product.y.data),
        stride(product.y.stride),
        rows(int(product.y.rows)),
        outputs(int(product.y.cols)),
        activates(product.activation.has_value()),
        activation(product.activation.value_or(Activation::gelu)),
        leaves(product.leaves),
        work(product.work) {}

  // Elements beyond the matrix's end are left out.
  __device__ bool has(int row, int output) const { return row < rows && output < outputs; }
  __device__ void put(int row, int output, float sum) const {
    if (has(row, output)) y[row * stride + output] = sum + (bias != nullptr ? bias[output] : 0.0f);
  }
  // What the same thread has put. (Apart, for a loop that is not unrolled: an activation is long.)
  __device__ void activate(int row, int output) const {
    if (has(row, output)) y[row * stride + output] = activated(activation, y[row * stride + output]);
  }

  // The inputs are summed in parts: leaves, or all of `width` as one.
  __device__ int parts() const { return leaves.count > 0 ? leaves.count : 1; }
  __device__ int begin(int part) const { return leaves.count > 0 ? leaves.offsets[part] : 0; }
  __device__ int end(int part, int width) const { return leaves.count > 0 ? leaves.offsets[part + 1] : width; }
};

// The stack machine of leaves.h for the kCount sums of a thread. Of the sums that wait the newest are kept in
// registers, as many before them as it has room for in shared memory (on small devices none), older ones in the work
// space.
template <int kCount, int kThreads>
class GemmLeaves {
 public:
  static constexpr size_t kBytes = sizeof(float) * kCount * kThreads;  // of what waits at a time
  // How many may wait in shared memory, beside what else a block has there.
  static int room(const Leaves& leaves, size_t others) {
    const size_t bytes = most_shared_memory();
    PLEAT_ASSERT(others <= bytes, others, " bytes of ", bytes);
    return std::clamp(leaves.pending - 1, 0, int((bytes - others) / kBytes));
  }
  // shared [room] of kBytes
  __device__ GemmLeaves(void* shared, int room) : shared_(static_cast<float*>(shared) + threadIdx.x), room_(room) {}

  // Takes in a leaf's sums and clears them.   place(i): {row, output} of sum i
  template <class Place>
  __device__ void end_leaf(int leaf, const GemmOutput& out, float (&sums)[kCount / 4][4], Place place) {
    const uint8_t after = out.leaves.after[leaf];
    for (int adds = after & Leaves::kAdds; adds > 0; --adds) add_newest(out, sums, place);
    if ((after & Leaves::kEnds) != 0)
      store(out.y + int64_t(nodes_++) * out.rows * out.stride, out.stride, out, place,
            [&](int i) { return sums[i / 4][i % 4]; });
    else
      put(out, sums, place);
    for_each([&](int i) { sums[i / 4][i % 4] = 0; });
  }

 private:
  template <class Use>
  __device__ static void for_each(Use use) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) use(i);
  }
  template <class Place, class Value>
  __device__ static void store(float* to, int64_t stride, const GemmOutput& out, Place place, Value value) {
    for_each([&](int i) {
      const auto [row, output] = place(i);
      if (out.has(row, output)) to[row * stride + output] = value(i);
    });
  }
  __device__ static void add(float left, float (&sums)[kCount / 4][4], int i) {
    sums[i / 4][i % 4] = left + sums[i / 4][i % 4];
  }
  // Of the sums that wait at place `at`, the oldest at 0.
  __device__ float& shared(int at, int i) const { return shared_[(at % room_ * kCount + i) * kThreads]; }
  __device__ float* work(const GemmOutput& out, int at) const {
    return out.work + int64_t(at) * out.rows * out.outputs;
  }

  template <class Place>
  __device__ void add_newest(const GemmOutput& out, float (&sums)[kCount / 4][4], Place place) {
    if (in_registers_) {
      for_each([&](int i) { add(newest_[i], sums, i); });
      in_registers_ = false;
      return;
    }
    if (--waiting_ >= in_work_) return for_each([&](int i) { add(shared(waiting_, i), sums, i); });
    const float* const left = work(out, --in_work_);
    for_each([&](int i) {
      const auto [row, output] = place(i);
      if (out.has(row, output)) add(left[int64_t(row) * out.outputs + output], sums, i);
    });
  }
  template <class Place>
  __device__ void put(const GemmOutput& out, const float (&sums)[kCount / 4][4], Place place) {
    if (in_registers_) {
      if (waiting_ - in_work_ == room_) {
        store(work(out, in_work_), out.outputs, out, place,
              [&](int i) { return room_ > 0 ? shared(in_work_, i) : newest_[i]; });
        ++in_work_;
      }
      if (room_ > 0) for_each([&](int i) { shared(waiting_, i) = newest_[i]; });
      ++waiting_;
    }
    for_each([&](int i) { newest_[i] = sums[i / 4][i % 4]; });
    in_registers_ = true;
  }

  float newest_[kCount];
  bool in_registers_ = false;
  float* shared_;
  int room_;
  int waiting_ = 0, in_work_ = 0;  // but for those in registers; of them the oldest, in the work space
  int nodes_ = 0;
};

}  // namespace pleat::cuda
