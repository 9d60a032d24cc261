#pragma once
// The one specification of a decoder block. A family (families/*.cpp) fills it in from config.json; everything below
// reads only this.
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "core/model/fold_spec.h"
#include "kernels/activation.h"

namespace pleat {

class Checkpoint;

enum class NormKind : uint8_t { layer_norm, rms_norm };
enum class NormPlace : uint8_t { before, after };  // of each sub-layer
enum class PositionKind : uint8_t { learned, rotary, alibi, none };

enum class Part : uint8_t {
  token_embedding,
  position_embedding,
  final_norm,
  head,  // once
  attention_norm,
  query,
  key,
  value,
  attention_output,
  ffn_norm,
  ffn_gate,
  ffn_up,
  ffn_down  // per layer
};

// Where a part's weight stands. Outputs of head h begin at output_begin + h * head_stride (query, key, value); other
// parts use output_begin alone.
struct WeightSource {
  std::string weight;        // tensor name
  std::string bias;          // empty: none
  bool input_major = false;  // [in, out] (GPT-2's Conv1D) instead of [out, in]
  int64_t output_begin = 0;
  int64_t head_stride = 0;
};

struct Blueprint {
  std::string family;   // Hugging Face model_type
  int64_t hidden = 0;   // d
  int64_t neurons = 0;  // h, FFN width
  int64_t vocab = 0;
  int64_t max_positions = 0;
  int layers = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_size = 0;
  float attention_scale = 0;  // of q . k

  NormKind norm = NormKind::layer_norm;
  NormPlace norm_place = NormPlace::before;
  float norm_epsilon = 1e-5f;
  PositionKind positions = PositionKind::learned;
  Activation activation = Activation::gelu_new;
  bool gated = false;              // SwiGLU, GeGLU
  bool parallel_residual = false;  // attention and FFN read the same input
  bool tied_head = true;

  std::optional<FoldSpec> fold;  // a folded checkpoint's section

  std::function<WeightSource(Part part, int layer)> source;
};

// Reads config.json and the fold section. Error(invalid) in one sentence that names an unknown architecture or
// activation, or a missing or impossible field.
Blueprint read_blueprint(const Checkpoint& checkpoint);

}  // namespace pleat
