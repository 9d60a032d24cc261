"""Hugging Face transformers on PyTorch."""
import time

import worker

folder, dtype, threads = worker.arguments(__doc__)

import torch
from transformers import AutoModelForCausalLM

torch.set_num_threads(threads)
start = time.perf_counter()
model = AutoModelForCausalLM.from_pretrained(folder, dtype={"bf16": torch.bfloat16, "f32": torch.float32}[dtype]).eval()


@torch.inference_mode()
def run(prompt, tokens):
    """Seconds of the prompt, and of each of `tokens` steps after it."""
    times, ids, past = [], torch.tensor([prompt]), None
    for _ in range(tokens + 1):
        begin = time.perf_counter()
        out = model(ids, past_key_values=past, use_cache=True, logits_to_keep=1)
        past, ids = out.past_key_values, out.logits[:, -1:].argmax(-1)
        times.append(time.perf_counter() - begin)
    return times


worker.serve(run, start)
