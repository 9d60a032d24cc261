#!/usr/bin/env python3
"""Writes a model folder of a given size with arbitrary small weights and the embedded model's tokenizer, to measure loading:
a GPT-2, whose matrices stand by input, or a Llama, whose matrices stand by output."""
import argparse
import json
import os
import shutil
import struct

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("out", help="the folder to write")
parser.add_argument("hidden", type=int, nargs="?", default=1600, help="1600 where it is not named")
parser.add_argument("layers", type=int, nargs="?", default=12, help="12 where it is not named")
parser.add_argument("family", choices=["gpt2", "llama"], nargs="?", default="gpt2")
options = parser.parse_args()
out, hidden, layers, family = options.out, options.hidden, options.layers, options.family
embedded = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "models", "pleat-gpt2-9m")
vocab, positions = 4096, 1024
config = json.load(open(os.path.join(embedded, "config.json")))
if family == "gpt2":
    config.update(n_embd=hidden, n_layer=layers, n_head=hidden // 64, n_positions=positions, n_ctx=positions)
    shapes = {"transformer.wte.weight": [vocab, hidden], "transformer.wpe.weight": [positions, hidden],
              "transformer.ln_f.weight": [hidden], "transformer.ln_f.bias": [hidden]}
    prefix = "transformer.h"
    layer_shapes = {"ln_1.weight": [hidden], "ln_1.bias": [hidden], "ln_2.weight": [hidden], "ln_2.bias": [hidden],
                    "attn.c_attn.weight": [hidden, 3 * hidden], "attn.c_attn.bias": [3 * hidden],
                    "attn.c_proj.weight": [hidden, hidden], "attn.c_proj.bias": [hidden],
                    "mlp.c_fc.weight": [hidden, 4 * hidden], "mlp.c_fc.bias": [4 * hidden],
                    "mlp.c_proj.weight": [4 * hidden, hidden], "mlp.c_proj.bias": [hidden]}
else:
    heads, neurons = hidden // 128, hidden * 11 // 4
    keys = heads // 4 * 128
    config = {"model_type": "llama", "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
              "num_key_value_heads": heads // 4, "intermediate_size": neurons, "vocab_size": vocab, "hidden_act": "silu",
              "max_position_embeddings": positions, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False}
    shapes = {"model.embed_tokens.weight": [vocab, hidden], "lm_head.weight": [vocab, hidden], "model.norm.weight": [hidden]}
    prefix = "model.layers"
    layer_shapes = {"input_layernorm.weight": [hidden], "post_attention_layernorm.weight": [hidden],
                    "self_attn.q_proj.weight": [hidden, hidden], "self_attn.k_proj.weight": [keys, hidden],
                    "self_attn.v_proj.weight": [keys, hidden], "self_attn.o_proj.weight": [hidden, hidden],
                    "mlp.gate_proj.weight": [neurons, hidden], "mlp.up_proj.weight": [neurons, hidden],
                    "mlp.down_proj.weight": [hidden, neurons]}
for layer in range(layers):
    for name, shape in layer_shapes.items():
        shapes[f"{prefix}.{layer}.{name}"] = shape

header, offset = {}, 0
for name, shape in shapes.items():
    size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
    header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
    offset += size
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
os.makedirs(out, exist_ok=True)
pattern = struct.pack("<256H", *(0x3C00 + (i % 2 << 15) + i // 2 for i in range(256))) * 4096  # about +-0.01 to 0.03
with open(os.path.join(out, "model.safetensors"), "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text)
    for begin in range(0, offset, len(pattern)):
        file.write(pattern[: min(len(pattern), offset - begin)])
json.dump(config, open(os.path.join(out, "config.json"), "w"), indent=1)
for name in ("tokenizer.json", "tokenizer_config.json"):
    shutil.copy(os.path.join(embedded, name), out)
print(f"{out}: {offset / 1e6:.0f} MB of weights")
