#include "kernels/cuda/multiply_rows.h"

#include <algorithm>

#include "kernels/cuda/leaf_stack.h"
#include "kernels/cuda/multiply_planes.h"
#include "kernels/cuda/row_dots.h"

namespace pleat::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kLeafLanes = 8;  // that add up a leaf
constexpr int kLeavesAtOnce = kWarp / kLeafLanes;

struct Product {
  RowProduct of;
  RowInput x;
};
struct Products {
  Product at[kMaxProducts];
  int count;
};

// A warp's product of one output: all lanes together, or with leaves every kLeafLanes lanes a leaf, then lane r puts
// row r's sums on its stack. (One loop for both: what it sums is most of a kernel's code.)
template <int kRows>
__device__ void multiply_row(const Product& product, int output, float* sums) {
  const Leaves& leaves = product.of.leaves;
  const int lane = int(threadIdx.x) % kWarp;
  const bool whole = leaves.count == 0;
  LeafStack stack;
  float* to = product.of.y + int64_t(lane) * product.of.y_stride + output;
  for (int first = 0; first < (whole ? 1 : leaves.count); first += kLeavesAtOnce) {
    Part part{0, product.x.width, lane, kWarp};
    if (!whole) {
      const int mine = first + lane / kLeafLanes;
      part = {0, 0, lane % kLeafLanes, kLeafLanes};
      if (mine < leaves.count) part.begin = leaves.offsets[mine], part.end = leaves.offsets[mine + 1];
    }
    float sum[kRows];
    part_dots(product.of.w, output, product.x, part, sum);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      for (int with = part.lanes / 2; with > 0; with /= 2) sum[r] += __shfl_xor_sync(~0u, sum[r], with);
      if (lane % part.lanes == 0) sums[lane / part.lanes * kRows + r] = sum[r];
    }
    __syncwarp();
    if (lane < product.x.rows && whole) {
      *to = sums[lane] + (product.of.bias != nullptr ? product.of.bias[output] : 0.0f);
    } else if (lane < product.x.rows) {
      for (int leaf = first; leaf < first + kLeavesAtOnce && leaf < leaves.count; ++leaf) {
        float node = 0;
        if (!stack.push(sums[(leaf - first) * kRows + lane], leaves.after[leaf], node)) continue;
        *to = node;
        to += int64_t(product.x.rows) * product.of.y_stride;
      }
    }
    __syncwarp();
  }
}

// A warp an output.
template <int kRows>
__global__ void __launch_bounds__(kWarps* kWarp) multiply_rows_kernel(Products products) {
  __shared__ SharedArray<float, kWarps * kLeavesAtOnce * kRows> sums;
  const int warp = int(threadIdx.x) / kWarp;
  int output = int(blockIdx.x) * kWarps + warp;
  int which = 0;
  while (which < products.count && output >= products.at[which].of.w.rows) output -= products.at[which++].of.w.rows;
  if (which == products.count) return;
  const Product& product = products.at[which];
  multiply_row<kRows>(product, output, sums.data() + warp * kLeavesAtOnce * kRows);
}

}  // namespace

void multiply_rows(cudaStream_t stream, const RowInput& x, std::initializer_list<RowProduct> products) {
  PLEAT_ASSERT(products.size() <= kMaxProducts && x.rows >= 1 && x.rows <= kMaxRows, products.size(), " products of ",
               x.rows, " rows");
  Products all{};
  int outputs = 0;
  for (const RowProduct& product : products) {
    PLEAT_ASSERT(product.y_stride >= product.w.rows, product.w.rows, " outputs in ", product.y_stride);
    PLEAT_ASSERT(product.leaves.count == 0 || product.bias == nullptr, "a bias is added once, after the sum");
    const RowInput part = x.slice(product.first_input, product.w.width);
    if (product.w.blocks.count > 0) {
      multiply_planes(stream, part, product);
      continue;
    }
    all.at[all.count++] = {product, part};
    outputs += product.w.rows;
  }
  if (outputs == 0) return;
  with_row_capacity(x.rows, [&](auto capacity) {
    launch(multiply_rows_kernel<capacity()>, {unsigned((outputs + kWarps - 1) / kWarps), kWarps * kWarp, 0, stream},
           all);
  });
}

}  // namespace pleat::cuda
