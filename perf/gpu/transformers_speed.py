"""Hugging Face transformers on the shapes of run_all.sh, with random weights, and PyTorch's own products (cuBLAS) at the
shape of kernel_lab's: a line of JSON each."""
import argparse
import json
import time

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("layers", type=int, help="of each model")
layers = parser.parse_args().layers  # help needs no package

try:
    import torch
    from transformers import AutoModelForCausalLM, FalconConfig, LlamaConfig
except ImportError as missing:
    parser.error(str(missing))

SHAPES = {
    "falcon-7b": FalconConfig(vocab_size=65024, hidden_size=4544, num_hidden_layers=layers, num_attention_heads=71,
                              multi_query=True, parallel_attn=True, bias=False, new_decoder_architecture=False),
    "llama-3-8b": LlamaConfig(vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=layers,
                              num_attention_heads=32, num_key_value_heads=8, rope_theta=500000.0),
}


def seconds(run):
    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - start


for rows in (1, 16, 512):
    x = torch.randn(rows, 4096, device="cuda", dtype=torch.bfloat16)
    weights = [torch.randn(8192, 4096, device="cuda", dtype=torch.bfloat16) for _ in range(4)]

    def products():
        for _ in range(25):
            for w in weights:
                torch.nn.functional.linear(x, w)

    took = sorted(seconds(products) for _ in range(5))[2] / 100
    print(json.dumps({"kind": "torch linear", "rows": rows, "us": took * 1e6, "gb_per_second": 8192 * 4096 * 2 / took / 1e9,
                      "tflop_per_second": 2 * rows * 8192 * 4096 / took / 1e12}), flush=True)

for name, config in SHAPES.items():
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config).eval()
    with torch.inference_mode():
        for batch in (1, 4, 16, 64):
            past = model(torch.randint(0, 4096, (batch, 128), device="cuda"), use_cache=True).past_key_values
            token = torch.randint(0, 4096, (batch, 1), device="cuda")

            def step():
                model(token, past_key_values=past, use_cache=True)

            times = sorted(seconds(step) for _ in range(24))
            print(json.dumps({"shape": name, "layers": layers, "batch": batch, "kind": "decode",
                              "ms_per_step": times[len(times) // 2] * 1e3}), flush=True)
        prompt = torch.randint(0, 4096, (1, 1024), device="cuda")
        times = sorted(seconds(lambda: model(prompt, use_cache=True)) for _ in range(4))
        print(json.dumps({"shape": name, "layers": layers, "tokens": 1024, "kind": "prefill",
                          "seconds": times[len(times) // 2]}), flush=True)
    del model
    torch.cuda.empty_cache()
