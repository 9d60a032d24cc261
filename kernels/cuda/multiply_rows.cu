#include "kernels/cuda/multiply_rows.h"

#include <algorithm>

#include "kernels/cuda/activate.h"
#include "kernels/cuda/activation.h"
#include "kernels/cuda/leaf_rounds.h"
#include "kernels/cuda/multiply_planes.h"
#include "kernels/cuda/row_dots.h"
#include "kernels/cuda/row_tile.h"
#include "kernels/cuda/shared_memory.h"

namespace pleat::cuda {
namespace {

// An output's inputs are summed in slots: one a leaf; without leaves eight, each every eighth of its blocks, or groups,
// of 64, or of its single inputs in f32. Slots are added in shared memory.
constexpr int kWarps = 8, kSlots = 8, kLaneOutputs = kWarps * kWarp / kSlots;
constexpr size_t kMostShared = 144 << 10;  // of sums, where the device has as much

struct Product {
  RowProduct of;
  RowInput x;
  int first_block, node_rows;
  bool activates;
  Activation activation;
  __device__ __host__ int slots() const { return of.leaves.count > 0 ? of.leaves.count : kSlots; }
};
struct Products {
  Product at[kMaxProducts];
  int count;
};

// A block has 16 outputs, whose slots its warps share out on their tensor cores, or 32, of which each lane sums every
// eighth slot by itself.
__host__ __device__ inline bool by_tiles(const Rows& w, int row_capacity) {
  return w.bits == 16 || (w.bits < 16 && row_capacity > 4);
}
__host__ __device__ inline int block_outputs(const Rows& w, int row_capacity) {
  return by_tiles(w, row_capacity) ? kTileOutputs : kLaneOutputs;
}

__device__ inline Part part_of(const Product& product, int slot) {
  const Leaves& leaves = product.of.leaves;
  if (leaves.count == 0) return {0, product.x.width, slot, kSlots};
  return {leaves.offsets[slot], leaves.offsets[slot + 1], 0, 1};
}

// value [slots][rows][kTileOutputs]: a warp has every kWarps-th slot.
template <int kTiles>
__device__ void sum_low_bit_tiles(const Product& product, const LaneRows& rows, float* value) {
  for (int slot = int(threadIdx.x) / kWarp; slot < product.slots(); slot += kWarps) {
    TileSums<kTiles> sums = {};
    add_low_bit_tile(product.of.w, rows, product.x, part_of(product, slot), sums);
    keep_tile(sums, product.x.rows, value + slot * product.x.rows * kTileOutputs);
  }
}

// The same of bf16. Leaves that are heads may be one block each: two of them at a time.
template <int kTiles>
__device__ void sum_bf16_tiles(const Product& product, const LaneRows& rows, float* value) {
  const TileInput<kTiles> in(product.x);
  const int n = product.x.rows * kTileOutputs;
  for (int slot = int(threadIdx.x) / kWarp; slot < product.slots(); slot += kWarps) {
    const Part part = part_of(product, slot);
    TileSums<kTiles> sums = {};
    if (slot + kWarps < product.slots() && in.is_block(part)) {
      const Part next = part_of(product, slot + kWarps);
      if (in.is_block(next)) {
        TileSums<kTiles> of_next = {};
        add_two_blocks(rows, in, {part.begin, next.begin}, sums, of_next);
        keep_tile(sums, product.x.rows, value + slot * n);
        slot += kWarps;
        keep_tile(of_next, product.x.rows, value + slot * n);
        continue;
      }
    }
    add_bf16_tile(rows, in, part, sums);
    keep_tile(sums, product.x.rows, value + slot * n);
  }
}

// kLowBit: w may be in low bits.
template <int kTiles, bool kLowBit>
__device__ void sum_by_tiles(const Product& product, int first_output, float* value) {
  const Rows& w = product.of.w;
  const auto row = [&](int output) { return w.data + min(output, w.rows - 1) * w.stride; };
  const int mine = first_output + int(threadIdx.x) % kWarp / 4;
  const LaneRows rows{{row(mine), row(mine + 8)}};
  if constexpr (kLowBit) {
    if (w.bits < 16) return sum_low_bit_tiles<kTiles>(product, rows, value);
  }
  sum_bf16_tiles<kTiles>(product, rows, value);
}

// value [slots][rows][kLaneOutputs]
template <int kRows>
__device__ void sum_by_lanes(const Product& product, int first_output, float* value) {
  const RowInput& x = product.x;
  const Rows& w = product.of.w;
  const int mine = int(threadIdx.x) / kSlots, lane = int(threadIdx.x) % kSlots;
  if (first_output + mine >= w.rows) return;
  for (int slot = lane; slot < product.slots(); slot += kSlots) {
    float sum[kRows];
    part_dots(w, first_output + mine, x, part_of(product, slot), sum);
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      if (r < x.rows) value[(slot * x.rows + r) * kLaneOutputs + mine] = sum[r];
  }
}

// Adds up the slots.
__device__ inline void finish(const Product& product, int first_output, int outputs, float* value) {
  const RowProduct& of = product.of;
  const int rows = product.x.rows, n = rows * outputs;
  const bool whole = of.leaves.count == 0;
  if (whole)
    __syncthreads();
  else
    add_up_leaves(of.leaves, value, n);
  for (int i = int(threadIdx.x); i < (whole ? 1 : of.leaves.nodes) * n; i += kWarps * kWarp) {
    const int node = i / n, row = i % n / outputs, output = first_output + i % outputs;
    if (output >= of.w.rows) continue;
    float sum = whole ? sum_of_eight(value + i, n) : value[first_of(of.leaves, node) * n + i % n];
    if (of.bias != nullptr) sum += of.bias[output];
    if (product.activates) sum = activated(product.activation, sum);
    of.y[(int64_t(node) * product.node_rows + row) * of.y_stride + output] = sum;
  }
}

// The first 32 KB of a block's weights, towards the L2 cache: they may be read before x is there, while the kernels
// before this one run, which may be small. Of the blocks that start at once: for others x is there already.
constexpr int kPrefetching = 512, kLine = 128;
__device__ inline void prefetch_rows(const Product& product, int first_output, int outputs) {
  if (int(blockIdx.x) >= kPrefetching) return;
  const Rows& w = product.of.w;
  const Leaves& leaves = product.of.leaves;
  const int lines = kWarps * kWarp / outputs, output = first_output + int(threadIdx.x) / lines;
  const int line = int(threadIdx.x) % lines, slot = line % kSlots;
  int64_t byte = int64_t(line) * kLine;
  if (leaves.count > 0)
    byte = slot < leaves.count ? int64_t(leaves.offsets[slot]) * w.bits / 8 + line / kSlots * kLine : w.stride;
  if (output < w.rows && byte < w.stride) prefetch(w.data + output * w.stride + byte);
}

template <int kRows>
__global__ void __launch_bounds__(kWarps* kWarp) multiply_rows_kernel(Products products) {
  let_next_start();
  int which = products.count - 1;
  while (int(blockIdx.x) < products.at[which].first_block) --which;
  const Product& product = products.at[which];
  const int outputs = block_outputs(product.of.w, kRows);
  const int first_output = (int(blockIdx.x) - product.first_block) * outputs;
  prefetch_rows(product, first_output, outputs);
  wait_for_previous();
  float* const value = dynamic_shared<float>();
  if (by_tiles(product.of.w, kRows))
    sum_by_tiles<(kRows + 7) / 8, (kRows > 4)>(product, first_output, value);
  else
    sum_by_lanes<kRows>(product, first_output, value);
  finish(product, first_output, outputs, value);
}

void multiply(cudaStream_t stream, Products all, int first_row, int rows) {
  with_row_capacity(rows, [&](auto capacity) {
    int blocks = 0;
    size_t shared = 0;
    for (int i = 0; i < all.count; ++i) {
      Product& product = all.at[i];
      const int outputs = block_outputs(product.of.w, capacity());
      product.x = product.x.from_row(first_row, rows);
      product.of.y += int64_t(first_row) * product.of.y_stride;
      product.first_block = blocks;
      blocks += (product.of.w.rows + outputs - 1) / outputs;
      shared = std::max(shared, size_t(product.slots() * rows * outputs) * sizeof(float));
    }
    launch_overlapping(multiply_rows_kernel<capacity()>, {unsigned(blocks), kWarps * kWarp, shared, stream}, all);
  });
}

}  // namespace

void multiply_rows(cudaStream_t stream, const RowInput& x, std::initializer_list<RowProduct> products) {
  PLEAT_ASSERT(products.size() <= kMaxProducts && x.rows >= 1 && x.rows <= kMaxRows, products.size(), " products of ",
               x.rows, " rows");
  Products all{};
  size_t row_bytes = 1;
  for (const RowProduct& product : products) {
    PLEAT_ASSERT(product.y_stride >= product.w.rows, product.w.rows, " outputs in ", product.y_stride);
    PLEAT_ASSERT(product.leaves.count == 0 || (product.bias == nullptr && !product.activation),
                 "a bias is added once, after the sum");
    const RowInput part = x.slice(product.first_input, product.w.width);
    if (product.w.blocks.count > 0) {
      multiply_planes(stream, part, product);
      if (product.activation)
        activate(stream, *product.activation, {product.y, x.rows, product.w.rows, product.y_stride});
      continue;
    }
    if (product.w.rows == 0) continue;
    Product& added = all.at[all.count++] = {
        product, part, 0, x.rows, product.activation.has_value(), product.activation.value_or(Activation::gelu)};
    row_bytes = std::max(row_bytes, size_t(added.slots() * block_outputs(product.w, kMaxRows)) * sizeof(float));
  }
  // A row's bits do not depend on the others: all at once, where their sums have room.
  const size_t room = std::min(kMostShared, most_shared_memory());
  const int at_once = int(std::min<size_t>(kMaxRows, room / row_bytes));
  PLEAT_REQUIRE(at_once > 0, "a tree of ", room / kLaneOutputs / sizeof(float), " leaves at most");
  for (int row = 0; row < x.rows && all.count > 0; row += at_once)
    multiply(stream, all, row, std::min(at_once, x.rows - row));
}

}  // namespace pleat::cuda
