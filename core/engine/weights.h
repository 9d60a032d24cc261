#pragma once
// One rank's weights, packed for its kernels and held once. Readable without the loader; the loader is weights.cpp.
#include <cstdint>
#include <functional>
#include <vector>

#include "core/model/blueprint.h"
#include "kernels/matmul.h"
#include "kernels/neuron_rows.h"
#include "kernels/predictor.h"
#include "kernels/thread_team.h"
#include "parallel/shard_plan.h"

namespace pleat {

class Checkpoint;
using Vector = std::vector<float>;

// d hidden size; this rank holds q query heads, kv key-value heads of hd, h_r neurons, d_r fold inputs.
struct NormWeights {
  Vector weight, bias;  // [d], or [hd] of a head; no weight: the model has no such norm
};

struct AttentionWeights {
  PackedMatrix query_key_value;      // [d, (q + 2 kv) * hd]
  Vector query_key_value_bias;       // [(q + 2 kv) * hd]
  NormWeights query_norm, key_norm;  // [hd], of every head
  PackedMatrix output;               // [q * hd, d], a leaf a head
  Vector output_bias;                // [d], on every rank: added after the sum
};

// Matrices that are read whole: of a dense layer all; of a folded one the part that decides (selections gate and
// threshold; in planes it is rows of FoldedFfn, read whole) or those of the neurons that are left (static).
struct DenseFfn {
  PackedMatrix gate;  // Wg [d, h_r] where gated
  PackedMatrix up;    // W1 [d, h_r]
  PackedMatrix down;  // W2 [h_r, d], a leaf a virtual shard
};

struct FoldedFfn {
  PackedMatrix fold;          // C  [d_r, d]  int8 by group, or bf16; a leaf a virtual shard; none without lines
  Vector fold_bias;           // B  [d], on every rank: added after the sum
  Vector slope, intercept;    // a, c [h_r]; gated: c, f; zeros without lines
  Vector gate_slope;          // e    [h_r]; gated
  NeuronRows gate, up, down;  // Wg^T, W1^T, W2 [h_r, d]: a neuron is one contiguous row in each
  // Who is exact: see core/model/fold_spec.h
  LowBitMatrix predictor;        // P  [h_r, d]  1 to 3 bits; gated: of up
  LowBitMatrix gate_predictor;   //    [h_r, d]
  Vector range_low, range_high;  //    [h_r]     in range: low <= z~ <= high
  Vector center, factor;         //    [h_r]     of the score
  float threshold = 0;           //              of the score
  float input_threshold = 0;     //              of |x_i|, where spec.cuts_inputs
};

// Gate and up of a layer whose inputs are cut (of one that runs densely where they are in low bits): an input is one
// contiguous row.
struct ByInputFfn {
  NeuronRows gate, up;                                                     // Wg, W1 [d, h_r]
  int64_t row_bytes() const { return gate.row_bytes() + up.row_bytes(); }  // of an input
};

// What is known of a layer wherever its weights are.
struct LayerShape {
  LayerFoldSpec spec;                   // who is computed exactly
  FfnBytes ffn_bytes;                   // of all ranks; floats count as bf16
  int64_t neurons = 0;                  // h_r, that this rank holds of the layer
  std::vector<int64_t> neuron_offsets;  // its virtual shards, as in NeuronRows and PackedMatrix
  bool folded = false;                  // generated tokens run folded; of selection static all tokens
  bool by_neuron = false;               // the down matrix is fold.down, else dense.down
};

struct LayerWeights : LayerShape {
  NormWeights attention_norm, attention_output_norm, ffn_norm, ffn_output_norm;
  AttentionWeights attention;
  DenseFfn dense;
  FoldedFfn fold;
  ByInputFfn by_input;
  size_t bytes() const;
  size_t exact_bytes() const;  // of the FFN's matrices
  // Selections gate and threshold: what decides, where it is held as rows, else nullptr; its bytes in either form.
  const NeuronRows* deciding_rows() const;
  size_t deciding_bytes() const;
  // Puts the rows of a neuron that are gathered side by side. Once all are there.
  void lay_gathered_rows();
  Vector gate_bias;  // bg [h_r] where gated
  Vector up_bias;    // b1 [h_r]
  Vector down_bias;  // b2 [d], on every rank; in B already for folded rows
};

// What stands around the layers.
struct OuterWeights {
  PackedMatrix head;              // [e, V_r]; also the token embedding where tied; e the embedding's width
  Vector head_bias;               // [V_r], or empty
  NeuronRows token_embedding;     // [V_r, e] where not tied
  NeuronRows position_embedding;  // [max_positions + position_offset, d]
  NormWeights embedding_norm;     // [d]
  PackedMatrix embedding_input;   // [e, d] where e is not d, on every rank
  PackedMatrix embedding_output;  // [d, e]
  NormWeights final_norm;
  size_t bytes() const;
};

struct Weights : OuterWeights {
  std::vector<LayerWeights> layers;
  size_t taken_bytes = 0;  // of what a WeightTaker has: no more than the layers' shapes are left of it
  size_t bytes() const;    // with those
};

// Has weights somewhere else than in this process's memory, which never holds all of them: each layer is taken as soon
// as it is there.
class WeightTaker {
 public:
  virtual ~WeightTaker() = default;
  // Once for each layer and once for what stands around them, by any threads at a time.
  virtual void take(int layer, LayerWeights weights) = 0;
  virtual void take(OuterWeights weights) = 0;
};

// Leaves a layer's shape. The bytes that it had.
size_t hand_over(WeightTaker& taker, int layer, LayerWeights& weights);
size_t hand_over(WeightTaker& taker, OuterWeights& weights);

// Reads this rank's slices only. Error(invalid) naming tensor and layer. `dense`: a folded checkpoint as a dense one.
// taker: who has them; nullptr: the result. The team's members take the parts (what stands around the layers, and of
// each layer the attention and the FFN) in turn.
struct LoadSigns {
  std::function<void()> alive = [] {};                                    // every megabyte or so, by any member
  std::function<void(int done, int parts)> after_part = [](int, int) {};  // by one member at a time
};
Weights load_weights(const Checkpoint& checkpoint, const Blueprint& blueprint, const ShardPlan& plan, int rank,
                     WeightFormat dtype, bool dense, ThreadTeam& team, const LoadSigns& signs,
                     WeightTaker* taker = nullptr);

// Random weights of the blueprint's shape, for measurements, in any format; folded where blueprint.fold is set, with
// ranges that leave as many fallback neurons as blueprint.fold->reduction asks for. taker: as above.
Weights synthetic_weights(const Blueprint& blueprint, const ShardPlan& plan, int rank, WeightFormat dtype,
                          Context& context, WeightTaker* taker = nullptr);

}  // namespace pleat
