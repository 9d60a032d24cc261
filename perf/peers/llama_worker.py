"""llama.cpp through llama-cpp-python's C interface."""
import time

import worker

path, _, threads = worker.arguments(__doc__)

import llama_cpp as llama
import numpy

start = time.perf_counter()
llama.llama_backend_init()
model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
options = llama.llama_context_default_params()
options.n_ctx, options.n_batch, options.n_ubatch = 1024, 1024, 512
options.n_threads = options.n_threads_batch = threads
context = llama.llama_init_from_model(model, options)
vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))


def run(prompt, tokens):
    """Seconds of the prompt, and of each of `tokens` steps after it."""
    llama.llama_memory_clear(llama.llama_get_memory(context), True)
    times, ids = [], prompt
    for _ in range(tokens + 1):
        begin = time.perf_counter()
        row = (llama.llama_token * len(ids))(*ids)  # the batch only points at it
        if llama.llama_decode(context, llama.llama_batch_get_one(row, len(ids))) != 0:
            raise RuntimeError("llama_decode failed")
        logits = numpy.ctypeslib.as_array(llama.llama_get_logits_ith(context, -1), (vocabulary,))
        ids = [int(logits.argmax())]
        times.append(time.perf_counter() - begin)
    return times


worker.serve(run, start)
