"""What the three workers share: {"prompt": [ids], "tokens": n} comes in as a line, a list of seconds goes out as one: of
the prompt, then of each of n steps. The first line out is the seconds from before the model was opened (imports over) to
the first token of a short prompt."""
import json
import sys
import time


def serve(run, start):
    run([1, 2, 3, 4, 5, 6, 7, 8], 0)
    print(json.dumps(time.perf_counter() - start), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(run(request["prompt"], request["tokens"])), flush=True)
