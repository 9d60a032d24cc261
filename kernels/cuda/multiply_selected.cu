#include "kernels/cuda/multiply_selected.h"

#include "kernels/cuda/activate.h"

namespace pleat::cuda {
namespace {

constexpr int kBinInputs = 512;  // at most: what the warps of a block that adds rows list at a time
constexpr int kThreads = 256;

int bins_of(int inputs) { return (inputs + kBinInputs - 1) / kBinInputs; }

struct Output {
  const float* bias;
  float* y;
  bool activates;
  Activation activation;
};
struct Outputs {
  Output at[kMaxAdded];
};
static_assert(kMaxAdded == 2);

// A thread an element. parts [products][bins][n], n = rows * outputs
__global__ void __launch_bounds__(kThreads)
    add_bins_kernel(Outputs all, int bins, int outputs, int n, const float* parts) {
  let_next_start();
  wait_for_previous();
  const int i = int(blockIdx.x) * kThreads + int(threadIdx.x);
  if (i >= n) return;
  const Output of = blockIdx.y == 0 ? all.at[0] : all.at[1];
  const float* const mine = parts + int64_t(blockIdx.y) * bins * n + i;
  float sum = of.bias != nullptr ? of.bias[i % outputs] : 0.0f;
#pragma unroll 8
  for (int bin = 0; bin < bins; ++bin) sum += mine[int64_t(bin) * n];
  of.y[i] = of.activates ? activated(of.activation, sum) : sum;
}

}  // namespace

std::vector<int32_t> input_bins(int inputs) {
  std::vector<int32_t> offsets = {0};
  for (int bin = 1; bin <= bins_of(inputs); ++bin) offsets.push_back(std::min(bin * kBinInputs, inputs));
  return offsets;
}

size_t selected_work(int rows, int inputs, int outputs, int products) {
  return size_t(products) * size_t(bins_of(inputs)) * size_t(rows) * size_t(outputs);
}

void multiply_selected(cudaStream_t stream, int rows, const float* x, std::initializer_list<SelectedProduct> products,
                       const DeviceSelection& selection, float* work) {
  PLEAT_ASSERT(products.size() >= 1 && products.size() <= kMaxAdded, products.size(), " products");
  const SelectionView view = selection.view();
  PLEAT_ASSERT(view.bins == bins_of(selection.neurons()), view.bins, " bins of ", selection.neurons(), " inputs");
  const SelectedProduct &first = products.begin()[0], &last = products.begin()[products.size() - 1];
  const int outputs = first.w.width, n = rows * outputs;
  const Shards bins{view.bin_offsets, view.bins, selection.neurons(), kBinInputs};
  if (products.size() == 1)
    add_exact_rows(stream, rows, {first.w}, bins, selection, x, work);
  else
    add_exact_rows(stream, rows, {first.w, last.w}, bins, selection, x, work);
  Outputs all{};
  Output* output = all.at;
  for (const SelectedProduct& of : products)
    *output++ = {of.bias, of.y, of.activation.has_value(), of.activation.value_or(Activation::gelu)};
  const dim3 grid(unsigned((n + kThreads - 1) / kThreads), unsigned(products.size()));
  launch_overlapping(add_bins_kernel, {grid, kThreads, 0, stream}, all, view.bins, outputs, n, work);
}

}  // namespace pleat::cuda
