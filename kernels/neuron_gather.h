#pragma once
// The two halves of fix_up() and its relatives: products of x with gathered rows, and gathered rows added up. The
// arithmetic is in neuron_rows.h.
#include "kernels/context.h"
#include "kernels/neuron_rows.h"

namespace pleat {

struct VectorOps;

// Neurons that follow one another in a selection.
struct GatheredNeurons {
  const int32_t* neuron = nullptr;  // [count], and those that come after up to [listed]
  const uint32_t* rows = nullptr;   // [count] masks
  int64_t count = 0, listed = 0;

  static GatheredNeurons of(const Selection& selection, int64_t begin, int64_t end) {
    return {&selection.neuron[size_t(begin)], &selection.rows[size_t(begin)], end - begin, selection.count() - begin};
  }
};

// Up to kMaxSharedRows rows of x as rows of one format are multiplied with: themselves for f32, rounded for bf16,
// quantised for low-bit formats.
class GatheredInput {
 public:
  GatheredInput() = default;
  // scratch: bytes(x), 64-byte aligned, used as long as this object is.
  GatheredInput(Context& ctx, MatrixView<const float> x, const NeuronRows& w, std::byte* scratch);
  static int64_t bytes(MatrixView<const float> x);
  static int64_t round_up(int64_t bytes) { return (bytes + 63) / 64 * 64; }

  // out[i * stride + k] = x[row] . w[i-th neuron], row being the k-th set bit of its mask. w: the one this was made
  // for, or one with the same_input().
  void dots(Isa isa, const NeuronRows& w, const GatheredNeurons& neurons, float* out, int64_t stride) const;

 private:
  void quantise(Context& ctx, const NeuronRows& w, std::byte* scratch);
  void add_protected(const NeuronRows& w, const GatheredNeurons& neurons, float* out, int64_t stride) const;

  MatrixView<const float> x_;
  int64_t groups_ = 0, slots_ = 0;
  const int8_t* q_ = nullptr;  // low-bit: see LowBitDots
  const float* scales_ = nullptr;
  const float* sums_ = nullptr;
};

// Whether both are multiplied with the same GatheredInput.
bool same_input(const NeuronRows& a, const NeuronRows& b);

// sums [leaves][rows, width] += factor * down[n] over the selection; with `one`, sums [rows, width]: leaf after leaf.
// factors [count][rows]: for each neuron of the union one factor a set bit of its mask.
class GatheredSums {
 public:
  GatheredSums(Context& ctx, const NeuronRows& down, const Selection& selection, float* factors, int64_t rows,
               float* sums, bool one = false);

  // Asks for the rows of the neurons [begin, end), as much of them as stays near until `together` neurons are known.
  void fetch(int64_t begin, int64_t end, int64_t together) const;
  // Factors of the neurons [begin, end) as rows of `down` are multiplied with them.
  void round(int64_t begin, int64_t end) const;
  // All columns of a leaf, by the calling thread; not with `one`.
  void add_leaf(int64_t leaf) const;
  // All leaves, by the team.
  void add_leaves(Context& ctx) const;

 private:
  void add(int64_t leaf, int64_t column, int64_t columns) const;
  void add_floats(int64_t i, const void* weights, const void* next, DType dtype, int64_t columns, float* out) const;

  const VectorOps& ops_;
  const NeuronRows& down_;
  const Selection& selection_;
  float* const factors_;
  const int64_t rows_;
  float* const sums_;
  const bool one_;
  const uint32_t* masks_ = nullptr;  // low-bit: of the selection, 0 where the neuron's row is held in bf16
};

// leaves += what the sums say, prepare(begin, end) having made the factors of a part of the selection. Where every
// thread has leaves enough, it makes a leaf's factors and adds its rows before it turns to the next: what was fetched
// is still near, and no thread waits for another in between. Which does not change the bits: a sum's additions are the
// same.
template <class Prepare>
void gather_leaves(Context& ctx, const Selection& selection, const GatheredSums& sums, Prepare prepare) {
  const int64_t leaves = int64_t(selection.leaf_begin.size()) - 1;
  if (leaves >= 2 * ctx.team().threads()) {
    ctx.team().split(leaves, [&](int, int64_t first, int64_t last) {
      for (int64_t leaf = first; leaf < last; ++leaf) {
        prepare(selection.leaf_begin[size_t(leaf)], selection.leaf_begin[size_t(leaf) + 1]);
        sums.add_leaf(leaf);
      }
    });
  } else {
    ctx.team().split(selection.count(), [&](int, int64_t begin, int64_t end) { prepare(begin, end); });
    sums.add_leaves(ctx);
  }
}

}  // namespace pleat
