#include "kernels/cuda/multiply_rows.h"

#include <algorithm>

#include "kernels/cuda/activate.h"
#include "kernels/cuda/activation.h"
#include "kernels/cuda/leaf_rounds.h"
#include "kernels/cuda/multiply_planes.h"
#include "kernels/cuda/row_dots.h"
#include "kernels/cuda/row_tile.h"

namespace pleat::cuda {
namespace {

// An output's inputs are summed in slots: one a leaf; without leaves eight, each every eighth of its blocks, or groups,
// of 64, or of its single inputs in f32. Slots are added in shared memory.
constexpr int kWarps = 8, kSlots = 8, kLaneOutputs = kWarps * kWarp / kSlots;
constexpr size_t kMostShared = 144 << 10;  // of sums

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
  int count, ring_bytes;
};

// A block has 16 outputs, whose slots its warps share out on their tensor cores, or 32, of which each lane sums every
// eighth slot by itself.
__host__ __device__ inline bool by_tiles(const Rows& w, int row_capacity) {
  return w.bits == 16 || (w.bits < 16 && row_capacity > 4);
}
__host__ __device__ inline int block_outputs(const Rows& w, int row_capacity) {
  return by_tiles(w, row_capacity) ? kTileOutputs : kLaneOutputs;
}

__device__ inline Stride part_of(const Product& product, int slot) {
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

// A block of 64 inputs of a warp's slots, one after the other.
struct Unit {
  int slot, begin;
  Stride part;

  __device__ Unit(const Product& product, int slot) : slot(slot), begin(0), part{} {
    if (slot < product.slots()) part = part_of(product, slot), begin = part.begin + part.first * 64;
  }
  __device__ Unit next(const Product& product) const {
    Unit out = *this;
    out.begin += part.step * 64;
    return out.begin < part.end ? out : Unit(product, slot + kWarps);
  }
};

// The same of bf16: two units' weights are under way, whose slots may be one block each.
template <int kTiles>
__device__ void sum_bf16_tiles(const Product& product, const LaneRows& rows, float* value) {
  const int n = product.x.rows * kTileOutputs, slots = product.slots();
  const TileInput<kTiles> in(product.x);
  TileSums<kTiles> sums = {};
  const auto multiply = [&](const Unit& unit, const TilePiece& weights, bool ends) {
    in.multiply(weights, unit.begin, unit.part, sums);
    if (!ends) return;
    keep_tile(sums, product.x.rows, value + unit.slot * n);
#pragma unroll
    for (int i = 0; i < kTiles * 4; ++i) sums[i / 4][i % 4] = 0;
  };
  for (Unit one(product, int(threadIdx.x) / kWarp); one.slot < slots;) {
    const Unit two = one.next(product), after = two.slot < slots ? two.next(product) : two;
    const TilePiece of_one = in.weights(rows, one.begin, one.part);
    const TilePiece of_two = two.slot < slots ? in.weights(rows, two.begin, two.part) : TilePiece();
    multiply(one, of_one, two.slot != one.slot);
    if (two.slot < slots) multiply(two, of_two, after.slot != two.slot);
    one = after;
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
__device__ void sum_by_lanes(const Product& product, int first_output, float* value, unsigned char* ring_memory) {
  const RowInput& x = product.x;
  const Rows& w = product.of.w;
  const CodeRing ring(ring_memory, min(w.bits, 8));
  const int mine = int(threadIdx.x) / kSlots, lane = int(threadIdx.x) % kSlots;
  if (first_output + mine >= w.rows) return;
  for (int slot = lane; slot < product.slots(); slot += kSlots) {
    const Stride part = part_of(product, slot);
    float sum[kRows];
    part_dots(w, first_output + mine, x, {part.begin, part.end, part.first, part.step}, ring, sum);
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

// Each slot's first weights, towards the L2 cache: they may be read before x is there.
__device__ inline void prefetch_rows(const Product& product, int first_output, int outputs) {
  const Rows& w = product.of.w;
  const Leaves& leaves = product.of.leaves;
  const int pieces = kWarps * kWarp / outputs, output = first_output + int(threadIdx.x) / pieces;
  const int piece = int(threadIdx.x) % pieces, slot = piece % kSlots, turn = piece / kSlots;
  int input = piece * 64;
  if (leaves.count > 0) input = slot < leaves.count ? leaves.offsets[slot] + turn * 64 : w.width;
  if (output < w.rows && input < w.width) prefetch(w.data + output * w.stride + int64_t(input) * w.bits / 8);
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
  unsigned char* const shared = dynamic_shared<unsigned char>();
  float* const value = reinterpret_cast<float*>(shared + products.ring_bytes);
  if (by_tiles(product.of.w, kRows))
    sum_by_tiles<(kRows + 7) / 8, (kRows > 4)>(product, first_output, value);
  else
    sum_by_lanes<kRows>(product, first_output, value, shared);
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
      if (!by_tiles(product.of.w, capacity()))
        all.ring_bytes = std::max(all.ring_bytes, int(CodeRing::bytes(product.of.w.bits, kWarps * kWarp)));
    }
    shared += size_t(all.ring_bytes);
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
  const int at_once = int(std::min<size_t>(kMaxRows, kMostShared / row_bytes));
  PLEAT_REQUIRE(at_once > 0, "a tree of ", kMostShared / kLaneOutputs / sizeof(float), " leaves at most");
  for (int row = 0; row < x.rows && all.count > 0; row += at_once)
    multiply(stream, all, row, std::min(at_once, x.rows - row));
}

}  // namespace pleat::cuda
