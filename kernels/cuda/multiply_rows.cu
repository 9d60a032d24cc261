#include "kernels/cuda/multiply_rows.h"

#include <algorithm>

#include "kernels/cuda/row_dots.h"

namespace pleat::cuda {
namespace {

constexpr int kWarps = 8;

struct Products {
  RowProduct at[kMaxProducts];
  int count;
};

// A warp an output.
template <int kRows>
__global__ void __launch_bounds__(kWarps * 32) multiply_rows_kernel(RowInput x, Products products) {
  int output = int(blockIdx.x) * kWarps + int(threadIdx.x) / 32;
  int which = 0;
  while (which < products.count && output >= products.at[which].w.rows) output -= products.at[which++].w.rows;
  if (which == products.count) return;
  const RowProduct& product = products.at[which];
  float sum[kRows];
  row_dots(product.w, output, x, sum);
  const float bias = product.bias != nullptr ? product.bias[output] : 0.0f;
#pragma unroll
  for (int r = 0; r < kRows; ++r)
    if (int(threadIdx.x) % 32 == r % 32 && r < x.rows)
      product.y[int64_t(r) * product.y_stride + output] = sum[r] + bias;
}

}  // namespace

void multiply_rows(cudaStream_t stream, const RowInput& x, std::initializer_list<RowProduct> products) {
  PLEAT_ASSERT(products.size() <= kMaxProducts && x.rows >= 1 && x.rows <= kMaxRows, products.size(), " products of ",
               x.rows, " rows");
  Products all{};
  int outputs = 0;
  for (const RowProduct& product : products) {
    PLEAT_ASSERT(product.w.width == x.width && product.y_stride >= product.w.rows, "[", product.w.rows, ", ",
                 product.w.width, "] for width ", x.width);
    all.at[all.count++] = product;
    outputs += product.w.rows;
  }
  if (outputs == 0) return;
  with_row_capacity(x.rows, [&](auto capacity) {
    launch(multiply_rows_kernel<capacity()>, {unsigned((outputs + kWarps - 1) / kWarps), kWarps * 32, 0, stream}, x,
           all);
  });
}

}  // namespace pleat::cuda
