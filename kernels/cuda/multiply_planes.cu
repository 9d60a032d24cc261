#include "kernels/cuda/multiply_planes.h"

#include "kernels/cuda/leaf_stack.h"
#include "kernels/cuda/low_bit_codes.h"
#include "kernels/cuda/plane_tile.h"
#include "kernels/cuda/row_dots.h"

namespace pleat::cuda {
namespace {

// A block has half of the 64 outputs of a record. A lane has four of them and every kSubs-th group of its warp.
constexpr int kWarps = 8, kThreads = kWarps * kWarp;
constexpr int kOutputs = 32, kQuads = kOutputs / 4, kSubs = kWarp / kQuads;

struct Place {
  int block, half;
  int quad, sub;  // of this lane
};

// Tables [64][kSubs] of the warp's groups from `first` on, as far as there are any.
__device__ inline void make_tables(const Rows& w, int block, int first, int end, PlaneTable* tables) {
  const int lane = int(threadIdx.x) % kWarp, groups = (w.width + 63) / 64;
  for (int i = lane; i < 64 * kSubs; i += kWarp) {
    const int sub = i / 64, table = i % 64;
    if (first + sub >= end) break;
    const int64_t at = int64_t(block) * groups + first + sub;
    tables[table * kSubs + sub] = PlaneRecord(w.bits, w.blocks.records + at * kPlaneRecordBytes * w.bits).table(table);
  }
}

// sum[r][o] += the dot product of a group of row r of x with the lane's output o.
template <int kRows>
__device__ void add_group(const Rows& w, const RowInput& x, const Place& place, int group, const PlaneTable* tables,
                          float (&sum)[kRows][4]) {
  const int64_t at = int64_t(place.block) * x.groups() + group;
  const PlaneRecord record(w.bits, w.blocks.records + at * kPlaneRecordBytes * w.bits);
  const bool by_column = w.blocks.blocks[place.block].by_column;
  const int output = place.half * kOutputs + place.quad * 4;
  int dots[kRows][4] = {};
#pragma unroll 1
  for (int line = 0; line < 4; ++line) {
    const PlaneRecord::Line signs = record.line(output / 4, line);
#pragma unroll
    for (int tile = 0; tile < 4; ++tile) {
      const int l = 4 * line + tile;
      int weights[4];
      signs.tile(tile).look_up(
          w.bits, [&](int i) { return tables[plane_table_of(by_column, output, 16 * i + l) * kSubs + place.sub]; },
          weights);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (r >= x.rows) break;
        const int q = x.words(r, group)[RowInput::word_place(l)];
#pragma unroll
        for (int o = 0; o < 4; ++o) dots[r][o] = __dp4a(weights[o], q, dots[r][o]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (r >= x.rows) break;
    const float scale = x.scales[r * x.group_stride + group] * w.blocks.units[at];
#pragma unroll
    for (int o = 0; o < 4; ++o) sum[r][o] = fmaf(scale, float(dots[r][o]), sum[r][o]);
  }
}

// What protected inputs of [begin, end) add to an output.
__device__ inline float add_protected(const Rows& w, const RowInput& x, int row, int output, int begin, int end,
                                      float sum) {
  for (int i = 0; i < w.protected_input_count; ++i) {
    const int input = w.protected_inputs[i];
    if (input < begin || input >= end) continue;
    const float weight = from_bf16(w.blocks.protected_weights[int64_t(output) * w.protected_input_count + i]);
    sum = fmaf(x.x[int64_t(row) * x.x_stride + input], weight, sum);
  }
  return sum;
}

// All warps share the groups of a product; with leaves each warp takes those of one leaf, then a thread an output of a
// row puts the warps' sums on its stack. So an output's bits depend on its leaves alone, whoever holds what beside it.
template <int kRows>
__global__ void __launch_bounds__(kThreads) multiply_planes_kernel(RowProduct product, RowInput x) {
  __shared__ SharedArray<PlaneTable, kWarps * 64 * kSubs> all_tables;
  __shared__ SharedArray<float, kWarps * kRows * kOutputs> sums;
  let_next_start();
  wait_for_previous();
  constexpr int kMine = (kRows * kOutputs + kThreads - 1) / kThreads;  // sums that a thread finishes
  const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp;
  const Rows& w = product.w;
  const Leaves& leaves = product.leaves;
  const bool whole = leaves.count == 0;
  const Place place{int(blockIdx.x) / 2, int(blockIdx.x) % 2, lane % kQuads, lane / kQuads};
  const PlaneBlock block = w.blocks.blocks[place.block];
  PlaneTable* const tables = all_tables.data() + warp * 64 * kSubs;
  LeafStack stacks[kMine];
  int node_count[kMine] = {};
  for (int first = 0; first < (whole ? 1 : leaves.count); first += kWarps) {
    int begin = 0, end = whole ? w.width : 0;
    if (!whole && first + warp < leaves.count)
      begin = leaves.offsets[first + warp], end = leaves.offsets[first + warp + 1];
    const int group_end = (end + 63) / 64, step = whole ? kWarps * kSubs : kSubs;
    float sum[kRows][4] = {};
    for (int group = (begin + 63) / 64 + (whole ? warp * kSubs : 0); group < group_end; group += step) {
      make_tables(w, place.block, group, group_end, tables);
      __syncwarp();
      if (group + place.sub < group_end) add_group(w, x, place, group + place.sub, tables, sum);
      __syncwarp();
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int o = 0; o < 4; ++o) {
        for (int with = kQuads; with < kWarp; with *= 2) sum[r][o] += __shfl_xor_sync(~0u, sum[r][o], with);
        if (place.sub == 0) sums[(warp * kRows + r) * kOutputs + place.quad * 4 + o] = sum[r][o];
      }
    __syncthreads();
#pragma unroll
    for (int mine = 0; mine < kMine; ++mine) {
      const int at = mine * kThreads + int(threadIdx.x), row = at / kOutputs;
      const int output = place.half * kOutputs + at % kOutputs - block.lane;
      if (row >= x.rows || output < 0 || output >= block.count) continue;
      float* const to = product.y + int64_t(row) * product.y_stride + block.output + output;
      float total = 0;
      for (int i = 0; i < kWarps && (whole || first + i < leaves.count); ++i) {
        const float of_warp = sums[i * kRows * kOutputs + at];
        if (whole) {
          total += of_warp;
          continue;
        }
        const int from = leaves.offsets[first + i], until = leaves.offsets[first + i + 1];
        const float leaf = add_protected(w, x, row, block.output + output, from, until, of_warp);
        float node = 0;
        if (stacks[mine].push(leaf, leaves.after[first + i], node))
          to[int64_t(node_count[mine]++) * x.rows * product.y_stride] = node;
      }
      if (!whole) continue;
      total = add_protected(w, x, row, block.output + output, 0, w.width, total);
      *to = product.bias != nullptr ? total + product.bias[block.output + output] : total;
    }
    __syncthreads();
  }
}

}  // namespace

void multiply_planes(cudaStream_t stream, const RowInput& x, const RowProduct& product) {
  PLEAT_ASSERT(x.q != nullptr && x.width == product.w.width, "x [", x.width, "] by [", product.w.width, "]");
  with_row_capacity(x.rows, [&](auto capacity) {
    launch_overlapping(multiply_planes_kernel<capacity()>, {unsigned(2 * product.w.blocks.count), kThreads, 0, stream},
                       product, x);
  });
}

}  // namespace pleat::cuda
