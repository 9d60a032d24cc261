#pragma once
// The one specification of a decoder block. A family (families/*.cpp) fills it in from config.json; everything below
// reads only this.
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/model/fold_spec.h"
#include "core/model/quantised_tensors.h"
#include "kernels/activation.h"
#include "kernels/rotary.h"

namespace pleat {

class Checkpoint;

enum class NormKind : uint8_t { layer_norm, rms_norm };
enum class NormPlace : uint8_t { before, after };  // the sub-layer; after: x = norm(x + f(x))
enum class PositionKind : uint8_t { learned, rotary, alibi, none };

enum class Part : uint8_t {
  // once
  token_embedding,     // [vocab, embedding]
  position_embedding,  // [max_positions + position_offset, d]
  embedding_norm,      // [d], of the sum of both (BLOOM)
  embedding_input,     // embedding -> d, where they differ (OPT 350m)
  embedding_output,    // d -> embedding, before the head
  final_norm,
  head,
  // per layer
  attention_norm,
  query,
  key,
  value,
  query_norm,  // [head_size], of every head
  key_norm,
  attention_output,
  attention_output_norm,  // of the attention's output, before it is added (Gemma 2)
  ffn_norm,
  ffn_gate,
  ffn_up,
  ffn_down,
  ffn_output_norm
};

// Where a part's weight stands. A model that has no such part leaves `weight` empty.
struct WeightSource {
  std::string weight;        // tensor name
  std::string bias;          // empty: none
  bool input_major = false;  // [in, out] (GPT-2's Conv1D) instead of [out, in]
  // Query, key and value may share a tensor of `outputs` outputs (0: the part's own number). Head h's begin at
  // output_begin + h / group_heads * group_stride + h % group_heads * head_size; group_stride 0: heads side by side.
  int64_t outputs = 0;
  int64_t output_begin = 0;
  int64_t group_heads = 1;
  int64_t group_stride = 0;
};

// What attention does in one layer.
struct LayerAttention {
  int64_t window = 0;  // tokens a row sees, itself included; 0: all before it
  int rotary = 0;      // index into Blueprint::rotaries; -1: none
};

struct Blueprint {
  std::string family;   // Hugging Face model_type
  int64_t hidden = 0;   // d
  int64_t neurons = 0;  // h, FFN width
  int64_t vocab = 0;
  int64_t max_positions = 0;
  int64_t embedding = 0;  // width of the token embedding and of the head's input; d nearly always
  int layers = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_size = 0;
  float attention_scale = 0;              // of q . k
  float attention_soft_cap = 0;           // 0: none
  float logit_soft_cap = 0;               // 0: none
  float embedding_scale = 1;              // of the token embedding
  std::vector<LayerAttention> attention;  // [layers]
  std::vector<Rotary> rotaries;           // with PositionKind::rotary
  std::vector<float> alibi_slopes;        // [heads] with PositionKind::alibi
  float alibi_scale = 1;
  bool alibi_in_bf16 = false;   // see AttentionScores
  int64_t position_offset = 0;  // position p's learned embedding is row p + position_offset

  NormKind norm = NormKind::layer_norm;
  NormPlace norm_place = NormPlace::before;
  float norm_epsilon = 1e-5f;
  bool norm_weight_plus_one = false;  // the checkpoint holds weight - 1 (Gemma)
  PositionKind positions = PositionKind::learned;
  Activation activation = Activation::gelu_new;
  bool gated = false;              // SwiGLU, GeGLU
  bool parallel_residual = false;  // x + attention(norm(x)) + FFN(norm(x)); without ffn_norm they share one norm
  bool tied_head = true;

  std::vector<int32_t> end_tokens;  // after which a text is over: eos_token_id of generation_config.json or config.json

  std::optional<FoldSpec> fold;  // a folded checkpoint's section
  QuantisedTensors quantised;    // by tensor name; the others are floats

  std::function<WeightSource(Part part, int layer)> source;
  bool has(Part part) const { return !source(part, 0).weight.empty(); }
  // How the part is held in memory where floats are held as `floats`.
  WeightFormat format_of(Part part, int layer, WeightFormat floats) const;
  FfnFormats ffn_formats(int layer, WeightFormat floats) const;
  const LayerFoldSpec& layer_fold(int layer) const;  // selection all where nothing is folded
  int64_t held_neurons(int layer) const;             // that the checkpoint has of the layer
};

// Reads config.json and the fold section. Error(invalid) in one sentence that names an unknown architecture or
// activation, or a missing or impossible field.
Blueprint read_blueprint(const Checkpoint& checkpoint);

}  // namespace pleat
