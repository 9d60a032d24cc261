#include "kernels/cuda/gemm_kernels.h"
#include "kernels/cuda/gemm_tile.h"

namespace pleat::cuda {
namespace {

// The steps in their order, part by part.
class Steps {
 public:
  __device__ Steps(const GemmOutput& out, int width) : begin(out.begin(0)), end(out.end(0, width)) {}
  // Where this step is; false: there is none left.
  __device__ bool reach(const GemmOutput& out, int width) {
    while (begin >= end) {
      if (part_ + 1 == out.parts()) return false;
      begin = out.begin(++part_);
      end = out.end(part_, width);
    }
    return true;
  }

  int begin, end;  // the step's first input, and the end of its part's

 private:
  int part_ = 0;
};

template <class Tile, int kStages>
constexpr size_t stage_bytes() {
  return size_t(kStages) * (Tile::kRowBytes + Tile::kOutputBytes);
}

template <class Tile, int kStages, bool kByLeaves>
__global__ void __launch_bounds__(Tile::kThreads, kByLeaves || Tile::kSums > 64 ? 1 : 2)
    gemm_bf16_kernel(GemmInput x, Rows w, GemmOutput out, int room) {
  constexpr int kStepInputs = Tile::kStepBytes / 2;
  unsigned char* const stages = dynamic_shared<unsigned char>();  // [kStages] of x, then w
  const typename Tile::Place corner{int(blockIdx.x) * Tile::kRows, int(blockIdx.y) * Tile::kOutputs};
  const Tile tile;
  const StepCopies<Tile, Tile::kRows> of_x(x.operand, x.stride, corner.row, out.rows);
  const StepCopies<Tile, Tile::kOutputs> of_w(w.data, w.stride, corner.output, w.rows);
  const auto stage_of = [&](int step) { return stages + step % kStages * (Tile::kRowBytes + Tile::kOutputBytes); };
  Steps ahead(out, w.width);
  const auto start = [&](int step) {
    if (ahead.reach(out, w.width)) {
      of_x.start(stage_of(step), ahead.begin * 2, ahead.end * 2);
      of_w.start(stage_of(step) + Tile::kRowBytes, ahead.begin * 2, ahead.end * 2);
      ahead.begin += kStepInputs;
    }
    commit_copies();
  };
  typename Tile::Sums sums = {};
  GemmLeaves<Tile::kSums, Tile::kThreads> leaves(stages + stage_bytes<Tile, kStages>(), room);
  for (int step = 0; step < kStages - 1; ++step) start(step);
  for (int part = 0, step = 0; part < out.parts(); ++part) {
    const int end = out.end(part, w.width);
    for (int begin = out.begin(part); begin < end; begin += kStepInputs, ++step) {
      wait_for_copies<kStages - 2>();
      __syncthreads();  // of all threads; and the stage that is filled next has been read
      start(step + kStages - 1);
      const unsigned char* const stage = stage_of(step);
#pragma unroll
      for (int run = 0; run < Tile::kStepRuns; ++run) {
        unsigned b[Tile::kOutputFragments][2][2];
        tile.load_outputs(stage + Tile::kRowBytes, run, b);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          unsigned a[Tile::kRowFragments][4];
#pragma unroll
          for (int i = 0; i < Tile::kRowFragments; ++i) tile.load_rows(stage, run, half, i, a[i]);
#pragma unroll
          for (int i = 0; i < Tile::kRowFragments; ++i)
#pragma unroll
            for (int j = 0; j < Tile::kOutputFragments; ++j)
              multiply_add(sums[i * Tile::kOutputFragments + j], a[i], b[j][half]);
        }
      }
    }
    if constexpr (kByLeaves) leaves.end_leaf(part, out, sums, [&](int at) { return tile.place(corner, at); });
  }
  if constexpr (!kByLeaves) put_sums(tile, corner, sums, out);
}

template <class Tile, int kStages, bool kByLeaves>
void run(cudaStream_t stream, const GemmInput& x, const GemmProduct& product) {
  using Waiting = GemmLeaves<Tile::kSums, Tile::kThreads>;
  constexpr size_t kBytes = stage_bytes<Tile, kStages>();
  const int room = kByLeaves ? Waiting::room(product.leaves, kBytes) : 0;
  launch(gemm_bf16_kernel<Tile, kStages, kByLeaves>,
         over_tiles<Tile>(int(x.x.rows), product.w.rows, kBytes + size_t(room) * Waiting::kBytes, stream), x, product.w,
         GemmOutput(product), room);
}

template <class Tile, int kStages>
void run_either(cudaStream_t stream, const GemmInput& x, const GemmProduct& product) {
  if (product.leaves.count > 0) return run<Tile, kStages, true>(stream, x, product);
  run<Tile, kStages, false>(stream, x, product);
}

// Few rows are a matter of reading w: all multiprocessors shall, each with enough bytes under way.
template <int kRowFragments>
void run_few(cudaStream_t stream, const GemmInput& x, const GemmProduct& product) {
  constexpr int kManyOutputs = 8192;
  if (product.w.rows >= kManyOutputs)
    run_either<GemmTile<1, 8, kRowFragments, 1, 2>, 6>(stream, x, product);
  else
    run_either<GemmTile<1, 4, kRowFragments, 1, 2>, 8>(stream, x, product);
}

}  // namespace

void gemm_bf16(cudaStream_t stream, const GemmInput& x, const GemmProduct& product) {
  if (x.x.rows <= 32) return run_few<2>(stream, x, product);
  if (x.x.rows <= 64) return run_few<4>(stream, x, product);
  using Wide = GemmTile<2, 4, 4, 8, 2>;
  constexpr int kMultiprocessors = 128;  // about
  const auto tiles = [](int64_t count, int size) { return (count + size - 1) / size; };
  const int64_t wide = tiles(x.x.rows, Wide::kRows) * tiles(product.w.rows, Wide::kOutputs);
  const bool has_room = stage_bytes<Wide, 3>() <= most_shared_memory();
  if (product.leaves.count == 0 && wide >= kMultiprocessors && has_room) return run<Wide, 3, false>(stream, x, product);
  run_either<GemmTile<2, 4, 4, 4, 2>, 3>(stream, x, product);
}

}  // namespace pleat::cuda
