#include "kernels/cuda/transposed_rows.h"

#include "kernels/cuda/weight_at.h"

namespace pleat::cuda {
namespace {

constexpr int kTile = 64, kThreads = 256;  // a block has 64 rows of w and one group of 64 columns

int64_t stride_of(int inputs, int bytes) { return (int64_t(inputs) * bytes + 15) / 16 * 16; }

__device__ inline void store(float* to, float value) { *to = value; }
__device__ inline void store(__nv_bfloat16* to, float value) { *to = __float2bfloat16_rn(value); }

template <class Weight>
__global__ void __launch_bounds__(kThreads) transpose_kernel(Rows w, unsigned char* out, int64_t stride) {
  __shared__ SharedArray<float, kTile*(kTile + 1)> tile;
  const int first_row = int(blockIdx.x) * kTile, first_column = int(blockIdx.y) * kTile;
  for (int i = int(threadIdx.x); i < kTile * kTile; i += kThreads) {
    const int row = i / kTile, column = i % kTile;
    const bool exists = first_row + row < w.rows && first_column + column < w.width;
    const float weight = exists ? weight_at(w, first_row + row, first_column + column) : 0.0f;
    tile[column * (kTile + 1) + row] = weight;
  }
  __syncthreads();
  for (int i = int(threadIdx.x); i < kTile * kTile; i += kThreads) {
    const int column = i / kTile, row = i % kTile;
    if (first_row + row < w.rows && first_column + column < w.width)
      store(reinterpret_cast<Weight*>(out + (first_column + column) * stride) + first_row + row,
            tile[column * (kTile + 1) + row]);
  }
}

// Of bf16, 8 numbers of a row at a time: rows, here and there, have multiples of 16 bytes.
__global__ void __launch_bounds__(kThreads) transpose_bf16_kernel(Rows w, unsigned char* out, int64_t stride) {
  constexpr int kPieceNumbers = 8, kPieces = kTile / kPieceNumbers;
  constexpr int kPitch = kTile + 2;  // numbers from row to row
  __shared__ SharedArray<uint16_t, kTile * kPitch> tile;
  const int first_row = int(blockIdx.x) * kTile, first_column = int(blockIdx.y) * kTile;
#pragma unroll
  for (int i = int(threadIdx.x); i < kTile * kPieces; i += kThreads) {
    const int row = i / kPieces, column = i % kPieces * kPieceNumbers;
    uint4 piece = make_uint4(0, 0, 0, 0);
    if (first_row + row < w.rows && first_column + column < w.width)
      piece =
          __ldg(reinterpret_cast<const uint4*>(w.data + (first_row + row) * w.stride + (first_column + column) * 2));
    unsigned* const to = reinterpret_cast<unsigned*>(tile.data() + row * kPitch + column);
    to[0] = piece.x;
    to[1] = piece.y;
    to[2] = piece.z;
    to[3] = piece.w;
  }
  __syncthreads();
#pragma unroll
  for (int i = int(threadIdx.x); i < kTile * kPieces; i += kThreads) {
    const int column = i / kPieces, row = i % kPieces * kPieceNumbers;
    if (first_row + row >= w.rows || first_column + column >= w.width) continue;
    const auto two = [&](int at) {
      return tile[(row + at) * kPitch + column] | unsigned(tile[(row + at + 1) * kPitch + column]) << 16;
    };
    *reinterpret_cast<uint4*>(out + (first_column + column) * stride + (first_row + row) * 2) =
        make_uint4(two(0), two(2), two(4), two(6));
  }
}

}  // namespace

int64_t TransposedRows::bytes_of(const Rows& w) { return w.width * stride_of(w.rows, w.bits == 32 ? 4 : 2); }

Rows TransposedRows::transpose(cudaStream_t stream, const Rows& w) const {
  Rows out;
  out.bits = w.bits == 32 ? 32 : 16;
  out.rows = w.width;
  out.width = w.rows;
  out.stride = stride_of(w.rows, out.bits / 8);
  out.data = data_.data();
  PLEAT_ASSERT(size_t(bytes_of(w)) <= data_.size(), "[", w.rows, ", ", w.width, "] in room for ", data_.size(),
               " bytes");
  if (w.rows == 0 || w.width == 0) return out;
  const auto tiles = [](int count) { return unsigned((count + kTile - 1) / kTile); };
  const Launch how{dim3(tiles(w.rows), tiles(w.width)), kThreads, 0, stream};
  if (out.bits == 32)
    launch(transpose_kernel<float>, how, w, data_.data(), out.stride);
  else if (w.bits == 16)
    launch(transpose_bf16_kernel, how, w, data_.data(), out.stride);
  else
    launch(transpose_kernel<__nv_bfloat16>, how, w, data_.data(), out.stride);
  return out;
}

}  // namespace pleat::cuda
