"""A worker of compare.py: {"prompt": [ids], "tokens": n} comes in as a line, a list of seconds goes out as one: of
the prompt, then of each of n steps. The first line out is the seconds from before the model was opened (imports over) to
the first token of a short prompt."""
import argparse
import json
import sys
import time


def arguments(engine):
    """Before an engine is imported, which takes seconds and is not everywhere."""
    parser = argparse.ArgumentParser(description=f"{engine} {__doc__}")
    parser.add_argument("model", help="its folder or file, as models.py makes it")
    parser.add_argument("format", help="f32, bf16, int8 ...; llama.cpp's files say it themselves")
    parser.add_argument("threads", type=int)
    options = parser.parse_args()
    return options.model, options.format, options.threads


def serve(run, start):
    run([1, 2, 3, 4, 5, 6, 7, 8], 0)
    print(json.dumps(time.perf_counter() - start), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(run(request["prompt"], request["tokens"])), flush=True)


if __name__ == "__main__":
    print(__doc__)
