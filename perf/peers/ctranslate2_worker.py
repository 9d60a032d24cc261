"""CTranslate2."""
import json
import os
import time

import worker

folder, dtype, threads = worker.arguments(__doc__)

import ctranslate2

with open(os.path.join(folder, "vocabulary.json")) as file:
    words = json.load(file)
start = time.perf_counter()
compute = {"f32": "float32", "int8": "int8_float32"}[dtype]
model = ctranslate2.Generator(folder, device="cpu", compute_type=compute, intra_threads=threads)


def run(prompt, tokens):
    """Seconds of the prompt, and of each of `tokens` steps after it."""
    at = [time.perf_counter()]

    def seen(_):
        at.append(time.perf_counter())
        return False

    model.generate_batch([[words[token] for token in prompt]], max_length=tokens + 1, min_length=tokens + 1,
                         include_prompt_in_result=False, sampling_topk=1, callback=seen)
    return [b - a for a, b in zip(at, at[1:])]


worker.serve(run, start)
