// Tensor names of GGUF's architectures as Hugging Face has them ('#': the layer), and the row orders its converter
// changed.
#include <array>
#include <charconv>

#include "core/checkpoint/gguf_model.h"
#include "kernels/check.h"

namespace pleat {
namespace {

using Names = std::map<std::string, std::string>;

const Names& llama_names() {
  static const Names names = {{"token_embd", "model.embed_tokens"},
                              {"output_norm", "model.norm"},
                              {"output", "lm_head"},
                              {"blk.#.attn_norm", "model.layers.#.input_layernorm"},
                              {"blk.#.attn_q", "model.layers.#.self_attn.q_proj"},
                              {"blk.#.attn_k", "model.layers.#.self_attn.k_proj"},
                              {"blk.#.attn_v", "model.layers.#.self_attn.v_proj"},
                              {"blk.#.attn_q_norm", "model.layers.#.self_attn.q_norm"},
                              {"blk.#.attn_k_norm", "model.layers.#.self_attn.k_norm"},
                              {"blk.#.attn_output", "model.layers.#.self_attn.o_proj"},
                              {"blk.#.ffn_norm", "model.layers.#.post_attention_layernorm"},
                              {"blk.#.ffn_gate", "model.layers.#.mlp.gate_proj"},
                              {"blk.#.ffn_up", "model.layers.#.mlp.up_proj"},
                              {"blk.#.ffn_down", "model.layers.#.mlp.down_proj"}};
  return names;
}

Names changed(Names names, const Names& changes) {
  for (const auto& [from, to] : changes) names[from] = to;
  return names;
}

// By Hugging Face's model_type.
const Names& names_of(const std::string& family) {
  static const Names sandwich =
      changed(llama_names(), {{"blk.#.post_attention_norm", "model.layers.#.post_attention_layernorm"},
                              {"blk.#.ffn_norm", "model.layers.#.pre_feedforward_layernorm"},
                              {"blk.#.post_ffw_norm", "model.layers.#.post_feedforward_layernorm"}});
  static const std::map<std::string, Names> by_family = {
      {"gemma2", sandwich},
      {"gemma3_text", sandwich},
      {"starcoder2", changed(llama_names(), {{"blk.#.ffn_up", "model.layers.#.mlp.c_fc"},
                                             {"blk.#.ffn_down", "model.layers.#.mlp.c_proj"}})},
      {"phi", changed(llama_names(), {{"output_norm", "model.final_layernorm"},
                                      {"blk.#.attn_output", "model.layers.#.self_attn.dense"},
                                      {"blk.#.ffn_up", "model.layers.#.mlp.fc1"},
                                      {"blk.#.ffn_down", "model.layers.#.mlp.fc2"}})},
      {"gpt2",
       {{"token_embd", "transformer.wte"},
        {"position_embd", "transformer.wpe"},
        {"output_norm", "transformer.ln_f"},
        {"output", "lm_head"},
        {"blk.#.attn_norm", "transformer.h.#.ln_1"},
        {"blk.#.attn_qkv", "transformer.h.#.attn.c_attn"},
        {"blk.#.attn_output", "transformer.h.#.attn.c_proj"},
        {"blk.#.ffn_norm", "transformer.h.#.ln_2"},
        {"blk.#.ffn_up", "transformer.h.#.mlp.c_fc"},
        {"blk.#.ffn_down", "transformer.h.#.mlp.c_proj"}}},
      {"falcon",
       {{"token_embd", "transformer.word_embeddings"},
        {"output_norm", "transformer.ln_f"},
        {"output", "lm_head"},
        {"blk.#.attn_norm", "transformer.h.#.input_layernorm"},
        {"blk.#.attn_qkv", "transformer.h.#.self_attention.query_key_value"},
        {"blk.#.attn_output", "transformer.h.#.self_attention.dense"},
        {"blk.#.ffn_up", "transformer.h.#.mlp.dense_h_to_4h"},
        {"blk.#.ffn_down", "transformer.h.#.mlp.dense_4h_to_h"}}}};
  const auto found = by_family.find(family);
  return found == by_family.end() ? llama_names() : found->second;
}

// "blk.12.ffn_up" -> "blk.#.ffn_up" and "12".
std::string without_layer(const std::string& name, std::string& layer) {
  if (!name.starts_with("blk.")) return name;
  const size_t end = name.find('.', 4);
  if (end == std::string::npos) return name;
  layer = name.substr(4, end - 4);
  return "blk.#" + name.substr(end);
}

// llama.cpp turns a rotated head's halves into neighbours: row 2 i + s of a head is Hugging Face's row s head / 2 + i.
std::function<int64_t(int64_t)> halves_from_neighbours(int64_t head) {
  return [head](int64_t row) {
    const int64_t in_head = row % head, half = head / 2;
    return row - in_head + in_head % half * 2 + in_head / half;
  };
}

// Falcon's groups of queries, key and value became all queries, all keys, all values.
std::function<int64_t(int64_t)> groups_from_kinds(int64_t heads, int64_t kv_heads, int64_t head) {
  return [=](int64_t row) {
    const int64_t queries = heads / kv_heads, group = row / ((queries + 2) * head);
    const int64_t kind = row / head % (queries + 2), element = row % head;
    if (kind < queries) return (group * queries + kind) * head + element;
    return (heads + (kind - queries) * kv_heads + group) * head + element;
  };
}

struct Shape {
  int64_t heads, kv_heads, head_size;
};

// Phi's older files have query, key and value in one tensor.
void add_phi_fused(const GgufTensor& tensor, const std::string& layer, const std::string& kind, const Shape& shape,
                   std::map<std::string, GgufPart>& parts) {
  int64_t begin = 0;
  for (const char* name : {"q_proj", "k_proj", "v_proj"}) {
    const int64_t rows = (name[0] == 'q' ? shape.heads : shape.kv_heads) * shape.head_size;
    GgufPart part{&tensor, tensor.shape, [begin](int64_t row) { return begin + row; }, 0};
    part.shape[0] = rows;
    if (begin + rows <= tensor.shape[0]) parts[concat("model.layers.", layer, ".self_attn.", name, kind)] = part;
    begin += rows;
  }
}

}  // namespace

std::map<std::string, GgufPart> gguf_parts(const GgufFile& gguf, const nlohmann::json& config) {
  const std::string family = config.at("model_type");
  const Shape shape{config.value("num_attention_heads", int64_t(0)), config.value("num_key_value_heads", int64_t(0)),
                    config.value("head_dim", int64_t(0))};
  const bool neighbours = gguf.metadata.at("general.architecture") == "llama";
  const bool two_norms = family == "falcon" && config.value("num_ln_in_parallel_attn", 1) == 2;
  const Names& names = names_of(family);
  std::map<std::string, GgufPart> parts;
  for (const GgufTensor& tensor : gguf.tensors) {
    const size_t dot = tensor.name.rfind('.');
    if (dot == std::string::npos) continue;
    const std::string kind = tensor.name.substr(dot);  // ".weight", ".bias"
    std::string layer;
    std::string stem = without_layer(tensor.name.substr(0, dot), layer);
    if (family == "phi" && stem == "blk.#.attn_qkv") {
      add_phi_fused(tensor, layer, kind, shape, parts);
      continue;
    }
    const auto found = names.find(stem);
    std::string name = found == names.end() ? "" : found->second;
    if (two_norms && stem == "blk.#.attn_norm") name = "transformer.h.#.ln_mlp";
    if (two_norms && stem == "blk.#.attn_norm_2") name = "transformer.h.#.ln_attn";
    if (name.empty()) continue;
    if (const size_t place = name.find('#'); place != std::string::npos) name.replace(place, 1, layer);
    GgufPart part{&tensor, tensor.shape, {}, 0};
    if (neighbours && (stem == "blk.#.attn_q" || stem == "blk.#.attn_k")) {
      PLEAT_REQUIRE(shape.head_size % 2 == 0 && tensor.shape[0] % shape.head_size == 0, "'", tensor.name, "' has ",
                    tensor.shape[0], " rows, which are no heads of ", shape.head_size, " in halves");
      part.stored_row = halves_from_neighbours(shape.head_size);
    }
    if (family == "falcon" && stem == "blk.#.attn_qkv") {
      PLEAT_REQUIRE(tensor.shape[0] == (shape.heads + 2 * shape.kv_heads) * shape.head_size, "'", tensor.name, "' has ",
                    tensor.shape[0], " rows, which are not ", shape.heads, " + 2 x ", shape.kv_heads, " heads of ",
                    shape.head_size);
      part.stored_row = groups_from_kinds(shape.heads, shape.kv_heads, shape.head_size);
    }
    if (family.starts_with("gemma") && stem.ends_with("norm")) part.shift = -1;
    parts[name + kind] = part;
  }
  return parts;
}

}  // namespace pleat
