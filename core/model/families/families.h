#pragma once
// How each Hugging Face model_type fills in the Blueprint: one function, one file each.
#include "core/model/blueprint.h"

namespace pleat {

class Config;

Blueprint bloom_blueprint(const Checkpoint& checkpoint, const Config& config);
Blueprint falcon_blueprint(const Checkpoint& checkpoint, const Config& config);
Blueprint gemma_blueprint(const Checkpoint& checkpoint, const Config& config);
Blueprint gemma2_blueprint(const Checkpoint& checkpoint, const Config& config);
Blueprint gemma3_blueprint(const Checkpoint& checkpoint, const Config& config);
Blueprint gpt2_blueprint(const Checkpoint& checkpoint, const Config& config);
Blueprint gpt_neox_blueprint(const Checkpoint& checkpoint, const Config& config);
Blueprint gptj_blueprint(const Checkpoint& checkpoint, const Config& config);
Blueprint llama_blueprint(const Checkpoint& checkpoint, const Config& config);
Blueprint mistral_blueprint(const Checkpoint& checkpoint, const Config& config);
Blueprint opt_blueprint(const Checkpoint& checkpoint, const Config& config);
Blueprint phi_blueprint(const Checkpoint& checkpoint, const Config& config);
Blueprint qwen2_blueprint(const Checkpoint& checkpoint, const Config& config);
Blueprint qwen3_blueprint(const Checkpoint& checkpoint, const Config& config);
Blueprint starcoder2_blueprint(const Checkpoint& checkpoint, const Config& config);

// What a configuration may ask for.
constexpr int64_t kMostHidden = 1 << 17, kMostLayers = 4096, kMostHeads = 4096, kMostPositions = 1 << 24,
                  kMostTokens = 1 << 24, kMostNeurons = 1 << 20;

// hidden / heads. Error(invalid) where it is no whole number.
int even_head_size(const Blueprint& blueprint);
float positive_epsilon(const Config& config, const char* key, double fallback);

// The sizes under the names that most families use: hidden_size, num_hidden_layers, num_attention_heads,
// num_key_value_heads, head_dim, max_position_embeddings, vocab_size. Sets attention_scale to
// 1 / sqrt(head_dim).
Blueprint common_sizes(const Config& config, const char* neurons = "intermediate_size");

}  // namespace pleat
