#pragma once
// The two halves of fix_up() and its relatives: products of x with gathered rows, and gathered rows added up. The
// arithmetic is in neuron_rows.h.
#include "kernels/neuron_rows.h"

namespace pleat {

// Up to kMaxSharedRows rows of x as rows of one format are multiplied with: themselves for f32, rounded for bf16,
// quantised for low-bit formats.
class GatheredInput {
 public:
  GatheredInput() = default;
  // scratch: bytes(x), 64-byte aligned, used as long as this object is.
  GatheredInput(Context& ctx, MatrixView<const float> x, const NeuronRows& w, std::byte* scratch);
  static int64_t bytes(MatrixView<const float> x);
  static int64_t round_up(int64_t bytes) { return (bytes + 63) / 64 * 64; }

  // out[i] = x[row] . w[neuron], row being the i-th set bit of `rows`; row `next` of w is fetched ahead. w: the one
  // this was made for, or one with the same_input().
  void dots(Isa isa, const NeuronRows& w, int64_t neuron, int64_t next, uint32_t rows, float* out) const;

 private:
  void quantise(Context& ctx, const NeuronRows& w, std::byte* scratch);

  MatrixView<const float> x_;
  int64_t groups_ = 0;
  const int8_t* q_ = nullptr;      // low-bit: see LowBitDots
  const float* scales_ = nullptr;  // [rows, groups]
  const float* sums_ = nullptr;    // [rows, groups]
};

// How many neurons before its turn a row is asked for: memory takes about as long to find it as 2 KB take to be read.
inline int64_t rows_ahead(int64_t row_bytes) { return 1 + 2048 / (row_bytes + 1); }

// Whether both are multiplied with the same GatheredInput.
bool same_input(const NeuronRows& a, const NeuronRows& b);

// Factors as rows of `down` are multiplied with them.
void round_factors(Isa isa, const NeuronRows& down, float* factors, int64_t n);

// add_gathered() begins with the scales of low-bit neurons, short pieces that memory is slow to find: asked for ahead.
void fetch_scales(const NeuronRows& down, int64_t neuron);

// Where gathered rows are added to.
struct GatheredSums {
  float* data = nullptr;  // [leaves][rows, width]
  bool one = false;       // [rows, width]: leaf after leaf into one sum
};

// sums += factor * down[n] over the selection. factors [count][rows], rounded: for each neuron of the union one factor
// a set bit of its mask.
void add_gathered(Context& ctx, const NeuronRows& down, const Selection& selection, const float* factors, int64_t rows,
                  GatheredSums sums);

}  // namespace pleat
