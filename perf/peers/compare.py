"""Decode, prefill and start-up of Pleat and its peers, in alternation (README.md); run.sh installs what it needs."""
import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SHAPES = {"gpt2-xl": dict(n_embd=1600, n_head=25, vocab_size=50257, n_positions=1024),
          "small": dict(n_embd=1024, n_head=16, vocab_size=8192, n_positions=1024)}
# What stands beside what: the same numbers in as many bytes.
RIVALS = {"bf16": {"transformers": "bf16", "llama.cpp bf16": "bf16", "llama.cpp f16": "f16"},
          "f32": {"transformers": "f32", "ctranslate2": "f32"},
          "int8": {"ctranslate2": "int8", "llama.cpp Q8_0": "int8"},
          "int4": {"llama.cpp Q4_0": "int4"}}
WORKERS = {"transformers": "transformers_worker.py", "ctranslate2": "ctranslate2_worker.py", "llama.cpp": "llama_worker.py"}


class Peer:
    def __init__(self, kind, path, format, threads):
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
        self.process = subprocess.Popen([sys.executable, os.path.join(HERE, WORKERS[kind]), path, format, str(threads)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        text=True, env=environment)
        self.started = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"perf/peers: {' '.join(self.process.args)} ended; run it by hand to see why")
        return json.loads(line)

    def run(self, prompt, tokens):
        self.process.stdin.write(json.dumps({"prompt": prompt, "tokens": tokens}) + "\n")
        self.process.stdin.flush()
        times = self.read()
        time.sleep(0.5)  # until its threads no longer wait awake
        return times

    def decode(self, context, tokens):
        return statistics.median(self.run(list(range(100, 100 + context)), tokens)[2:])

    def prefill(self, tokens):
        return self.run(list(range(100, 100 + tokens)), 0)[0]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Pleat:
    def __init__(self, program, path, format, threads):
        self.program, self.path, self.threads = program, path, str(threads)
        self.dtype = "f32" if format == "f32" else "bf16"

    def bench(self, what, *options):
        out = subprocess.run([self.program, "bench", what, "--model", self.path, "--threads", self.threads, "--dtype",
                              self.dtype, "--json", "--quiet", *options], check=True, stdout=subprocess.PIPE, text=True)
        return json.loads(out.stdout.splitlines()[-1])  # of a folded model the folded one

    def decode(self, context, tokens):
        return self.bench("decode", "--context", str(context), "--tokens", str(tokens))["ms_per_step"] / 1e3

    def prefill(self, tokens):
        return self.bench("prefill", "--tokens", str(tokens))["seconds"]

    def start(self):
        """Of the whole process, to the first token of a short prompt."""
        begin = time.perf_counter()
        subprocess.run([self.program, "generate", "--model", self.path, "--prompt", "12345678", "--max-tokens", "1",
                        "--threads", self.threads, "--dtype", self.dtype, "--quiet"], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begin


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def compare(format, ready, options, report):
    pleat = Pleat(options.pleat, ready["pleat", format], format, options.threads)
    peers = {name: Peer(name.split()[0], ready[name.split()[0], theirs], theirs, options.threads)
             for name, theirs in RIVALS[format].items()}
    measures = {"decode": lambda engine: engine.decode(options.context, options.tokens),
                "prefill": lambda engine: engine.prefill(options.prompt)}
    tokens = {"decode": 1, "prefill": options.prompt}
    for what, measure in measures.items():
        rounds = {name: [] for name in ("pleat", *peers)}
        for _ in range(options.rounds):
            rounds["pleat"].append(measure(pleat))
            for name, peer in peers.items():
                rounds[name].append(measure(peer))
        for name, times in rounds.items():
            ratios = [theirs / mine for theirs, mine in zip(times, rounds["pleat"])]
            report(dict(format=format, what=what, engine=name, seconds=statistics.median(times),
                        tokens_per_second=tokens[what] / statistics.median(times), ratio=statistics.median(ratios),
                        ratio_lowest=min(ratios), ratio_highest=max(ratios)),
                   f"{format:5} {what:8} {name:16} {tokens[what] / statistics.median(times):9.1f} tok/s" +
                   ("" if name == "pleat" else f"   Pleat is {spread(ratios)} times as fast"))
    for peer in peers.values():
        peer.close()
    starts = {name: [] for name in ("pleat", *peers)}
    for _ in range(options.rounds):
        starts["pleat"].append(pleat.start())
        for name, theirs in RIVALS[format].items():
            peer = Peer(name.split()[0], ready[name.split()[0], theirs], theirs, options.threads)
            starts[name].append(peer.started)
            peer.close()
    for name, times in starts.items():
        report(dict(format=format, what="start", engine=name, seconds=statistics.median(times), lowest=min(times), highest=max(times)),
               f"{format:5} start    {name:16} {spread(times)} s" +
               (", the whole process" if name == "pleat" else " without its process's start and imports"))


def arguments():
    parser = argparse.ArgumentParser("compare.py", description=__doc__)
    parser.add_argument("--build", required=True, help="the folder with pleat; the engines and their models are under its folder peers")
    parser.add_argument("--model", help="a GGUF file")
    parser.add_argument("--shape", choices=SHAPES, help="or random weights of a shape")
    parser.add_argument("--layers", type=int, default=24, help="of the shape")
    parser.add_argument("--formats", default="bf16,int4,int8,f32")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--context", type=int, default=128, help="tokens before the first measured one")
    parser.add_argument("--tokens", type=int, default=64, help="measured steps")
    parser.add_argument("--prompt", type=int, default=512, help="tokens of the measured prompt")
    parser.add_argument("--json", help="also a line of JSON a figure, to this file")
    options = parser.parse_args()
    if bool(options.model) == bool(options.shape) or (options.model and not os.path.isfile(options.model)):
        parser.error("name a GGUF file (--model), which llama.cpp reads too, or a --shape")
    if not set(options.formats.split(",")) <= set(RIVALS):
        parser.error(f"--formats is a list of {', '.join(RIVALS)}")
    options.pleat = os.path.join(options.build, "pleat")
    if not shutil.which(options.pleat):
        parser.error(f"there is no program {options.pleat}")
    return options


def main():
    options = arguments()
    import models  # and with it the engines, which arguments and help do without
    name = f"{options.shape}-{options.layers}" if options.shape else os.path.basename(options.model)
    formats = options.formats.split(",")
    wanted = [pair for format in formats
              for pair in [("pleat", format)] + [(peer.split()[0], theirs) for peer, theirs in RIVALS[format].items()]]
    ready = models.prepare(os.path.join(options.build, "peers", name), options.pleat, options.model, SHAPES.get(options.shape),
                           options.layers, wanted)
    processor = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
                     platform.machine())
    out = open(options.json, "a") if options.json else None

    def report(record, line):
        print(line, flush=True)
        if out:
            print(json.dumps(dict(model=name, processor=processor, threads=options.threads, **record)), file=out, flush=True)

    print(f"{name} on {processor}, {options.threads} threads, {options.rounds} rounds")
    for format in formats:
        compare(format, ready, options, report)


if __name__ == "__main__":
    main()
