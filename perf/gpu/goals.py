"""Adds what was asked for, and whether it was reached, to what run_all.sh measured: goals.py results.json

All of it at the smallest batch that was measured. The FFN's time is what a step leaves when everything else is taken to
run at the dense step's GB/s: a device's step is not timed by parts.
"""
import json
import sys

# hidden size, neurons, matrices of an FFN
FFNS = {"falcon-7b": (4544, 18176, 2), "llama-3-8b": (4096, 14336, 3), "tiny": (128, 512, 2)}


def goal(text, asked, measured, at_least=True):
    reached = measured is not None and (measured >= asked if at_least else measured <= asked)
    status = "not measured" if measured is None else "pass" if reached else "fail"
    return {"goal": text, "asked": asked, "measured": measured, "status": status}


def decode_goals(shape, dense, folded):
    layers = int(dense["shape"].split(" layers")[0].split()[-1])
    hidden, neurons, matrices = FFNS[shape]
    ffn = 2 * hidden * neurons * matrices * layers / dense["weight_bytes_per_step"] * dense["ms_per_step"]
    folded_ffn = folded["ms_per_step"] - (dense["ms_per_step"] - ffn)
    yield goal(f"{shape}: dense decode as a share of the copy bandwidth", 0.85, dense["share_of_bandwidth"])
    yield goal(f"{shape}: folded at 80%, times as fast as dense end to end", 1.6, dense["ms_per_step"] / folded["ms_per_step"])
    yield goal(f"{shape}: folded at 80%, times as fast as dense in the FFN (by bytes)", 2.5, ffn / folded_ffn if folded_ffn > 0 else None)


def goals(lines):
    decodes = {}
    for step, found in lines.items():
        for line in found if step.startswith("decode-") else []:
            decodes.setdefault(step[7:], {}).setdefault(line["batch"], {})[line["subject"]] = line
    for shape, by_batch in sorted(decodes.items()):
        subjects = by_batch[min(by_batch)]
        if "dense" in subjects and "folded" in subjects:
            yield from decode_goals(shape, subjects["dense"], subjects["folded"])
    sums = [line["us"] for line in lines.get("kernel_lab", [])
            if line.get("valid") and line["kernel"].startswith("all_reduce") and line["shape"].startswith("2 ranks") and "[1, 4096]" in line["shape"]]
    yield goal("all-reduce of 16 KB between 2 ranks, us", 8, min(sums, default=None), at_least=False)


def main(path):
    with open(path, encoding="utf-8") as file:
        results = json.load(file)
    results["goals"] = list(goals(results["lines"]))
    for each in results["goals"]:
        measured = "" if each["measured"] is None else f' {each["measured"]:.3g}'
        print(f'{each["status"]}: {each["goal"]}:{measured} (asked: {each["asked"]})')
    with open(path, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)
        file.write("\n")


main(*sys.argv[1:])
