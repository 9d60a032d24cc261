#!/usr/bin/env python3
"""Writes a GPT-2 folder of a given size with arbitrary small weights and the embedded model's tokenizer, to measure loading.
usage: make_checkpoint.py OUT_DIR [hidden] [layers]"""
import json
import os
import shutil
import struct
import sys

out, hidden, layers = sys.argv[1], int(sys.argv[2] if len(sys.argv) > 2 else 1600), int(sys.argv[3] if len(sys.argv) > 3 else 12)
embedded = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "models", "pleat-gpt2-9m")
vocab, positions = 4096, 1024
shapes = {"transformer.wte.weight": [vocab, hidden], "transformer.wpe.weight": [positions, hidden],
          "transformer.ln_f.weight": [hidden], "transformer.ln_f.bias": [hidden]}
for layer in range(layers):
    for name, shape in {"ln_1.weight": [hidden], "ln_1.bias": [hidden], "ln_2.weight": [hidden], "ln_2.bias": [hidden],
                        "attn.c_attn.weight": [hidden, 3 * hidden], "attn.c_attn.bias": [3 * hidden],
                        "attn.c_proj.weight": [hidden, hidden], "attn.c_proj.bias": [hidden],
                        "mlp.c_fc.weight": [hidden, 4 * hidden], "mlp.c_fc.bias": [4 * hidden],
                        "mlp.c_proj.weight": [4 * hidden, hidden], "mlp.c_proj.bias": [hidden]}.items():
        shapes[f"transformer.h.{layer}.{name}"] = shape

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
config = json.load(open(os.path.join(embedded, "config.json")))
config.update(n_embd=hidden, n_layer=layers, n_head=hidden // 64, n_positions=positions, n_ctx=positions)
json.dump(config, open(os.path.join(out, "config.json"), "w"), indent=1)
for name in ("tokenizer.json", "tokenizer_config.json"):
    shutil.copy(os.path.join(embedded, name), out)
print(f"{out}: {offset / 1e6:.0f} MB of weights")
