#!/usr/bin/env python3
"""Strong and weak scaling under mpirun, a model fitted to it, and what the model says of 1 to 1024 GPUs.

Strong: the same model on more ranks. Weak: `layers` times the ranks, so that each reads as many bytes. A rank has one thread.
Fitted: latency and bandwidth of an all-reduce for each number of ranks, and on one rank the kernels' share of the read
bandwidth and what is neither kernel nor sum. The rest of the points are predicted and stand beside what was measured.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys

import scaling_model as model


def lines(ranks, *command):
    environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                       OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_MCA_btl_vader_single_copy_mechanism="none")
    out = subprocess.run(["mpirun", "-np", str(ranks), *command], capture_output=True, text=True, env=environment)
    if out.returncode != 0:
        sys.exit(f"{' '.join(command)} on {ranks} ranks:\n{out.stderr}")
    return [json.loads(line) for line in out.stdout.splitlines() if line.startswith("{")]


def decode(args, ranks, layers):
    """{subject: line} of `pleat bench decode --profile`."""
    found = lines(ranks, args.pleat, "bench", "decode", "--synthetic", args.shape, "--layers", str(layers), "--fold", str(args.fold),
                  "--threads", "1", "--tokens", str(args.tokens), "--profile", "--json", "--quiet")
    return {line["subject"]: line for line in found}


def fit_all_reduce(links):
    """(alpha, beta): seconds = alpha + beta * bytes, by least squares of relative errors, over sums as large as a decode step's."""
    points = [(1 / (p["p50_us"] * 1e-6), p["bytes"] / (p["p50_us"] * 1e-6)) for p in links if p["bytes"] <= 256 << 10]
    aa, ab, bb = (sum(f(a, b) for a, b in points) for f in (lambda a, b: a * a, lambda a, b: a * b, lambda a, b: b * b))
    a1, b1 = sum(a for a, _ in points), sum(b for _, b in points)
    determinant = aa * bb - ab * ab
    return (a1 * bb - b1 * ab) / determinant, (b1 * aa - a1 * ab) / determinant


def fit_kernels(line):
    """Of one rank: the kernels' share of the read bandwidth, and seconds a step outside kernels and sums."""
    rank = line["ranks"][0]
    seconds = rank["kernels_ms"] * 1e-3
    share = line["weight_bytes_per_step"] / seconds / (line["read_bandwidth_gb_per_second"] * 1e9)
    return share, (rank["compute_ms"] - rank["kernels_ms"]) * 1e-3


def predicted_step(line, ranks, kernels, link, hidden, bandwidth):
    """Seconds of a step: the slowest rank's bytes at its part of the bandwidth (B/s), and the sums."""
    share, outside = kernels
    alpha, beta = link
    fixup = line["phases"].get("fix-up", {}).get("bytes", 0) if "fallback" in line else 0
    read = line["weight_bytes_per_step"] + fixup * (line.get("fixup_imbalance", 1) - 1)
    sums = line["ranks"][0]["collectives"] * (alpha + beta * 4 * hidden) if ranks > 1 else 0
    return read / (bandwidth * share) + outside + sums


def point(line, ranks, first, kind):
    slowest = max(line["ranks"], key=lambda rank: rank["compute_ms"])
    speedup = line["tokens_per_second"] / first["tokens_per_second"]
    return {"ranks": ranks, "tokens_per_second": line["tokens_per_second"],
            "efficiency": speedup / ranks if kind == "strong" else speedup,
            "imbalance": line.get("fixup_imbalance", 1), "read_bandwidth_gb_per_second": line["read_bandwidth_gb_per_second"],
            "per_rank": [{"compute_ms": rank["compute_ms"], "collective_ms": rank["collectives_ms"] - rank["waiting_ms"],
                          "wait_ms": rank["waiting_ms"], "bytes_sent": rank["bytes_sent"]} for rank in line["ranks"]],
            "slowest_compute_ms": slowest["compute_ms"]}


def measure(args, ranks_list):
    strong = {ranks: decode(args, ranks, args.layers) for ranks in ranks_list}
    weak = {ranks: strong[1] if ranks == 1 else decode(args, ranks, args.layers * ranks) for ranks in ranks_list}
    links = {ranks: lines(ranks, args.pleat, "bench", "allreduce", "--json", "--threads", "1")[-1]["all_reduce"]
             for ranks in ranks_list if ranks > 1}
    return strong, weak, links


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pleat", help="the program")
    parser.add_argument("out", help="the JSON file to write")
    parser.add_argument("--ranks", default="1,2,3,4", help="from 1 on, to which the others are compared")
    parser.add_argument("--shape", default="small", choices=model.SHAPES)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--fold", type=float, default=0.75, help="the reduction of the folded model")
    parser.add_argument("--tokens", type=int, default=64, help="measured steps")
    parser.add_argument("--predict", default="gpt2-xl,falcon-7b", help="shapes")
    args = parser.parse_args()
    if not re.fullmatch(r"1(,[1-9]\d*)*", args.ranks):
        parser.error("--ranks is a list that begins with 1, to which the others are compared")
    if not set(args.predict.split(",")) <= set(model.SHAPES):
        parser.error(f"--predict is a list of {', '.join(model.SHAPES)}")
    for program in ("mpirun", args.pleat):
        if not shutil.which(program):
            parser.error(f"there is no program {program}")
    if not os.path.isdir(os.path.dirname(args.out) or "."):
        parser.error(f"there is no folder {os.path.dirname(args.out)}")
    ranks_list = [int(r) for r in args.ranks.split(",")]
    strong, weak, links = measure(args, ranks_list)
    hidden, cores = model.SHAPES[args.shape][0], len(os.sched_getaffinity(0))
    fitted = {ranks: fit_all_reduce(found) for ranks, found in links.items()}
    fitted[1] = (0, 0)
    out = {"shape": args.shape, "layers": args.layers, "cores": cores, "measured": {},
           "all_reduce": {r: {"measured": links[r], "alpha_us": a * 1e6, "gb_per_second": 1e-9 / b if b > 0 else None}
                          for r, (a, b) in fitted.items() if r > 1}, "kernels": {}, "predicted": {}, "traffic": []}
    for subject in strong[1]:
        kernels = fit_kernels(strong[1][subject])
        out["kernels"][subject] = {"share_of_bandwidth": kernels[0], "outside_ms": kernels[1] * 1e3}
        for kind, runs in (("strong", strong), ("weak", weak)):
            points = []
            for ranks in ranks_list:
                line = runs[ranks][subject]
                points.append(point(line, ranks, runs[1][subject], kind))
                outside = kernels[1] * (ranks if kind == "weak" else 1)
                # Ranks that share a core take turns: each reads as if it were alone, and together they read no faster.
                running = runs[max(r for r in ranks_list if r <= max(1, cores))][subject]
                bandwidth = min(line["read_bandwidth_gb_per_second"], running["read_bandwidth_gb_per_second"]) * 1e9
                step = predicted_step(line, ranks, (kernels[0], outside), fitted[ranks], hidden, bandwidth)
                points[-1]["predicted_tokens_per_second"] = 1 / step
            out["measured"].setdefault(kind, {})[subject] = points
    folded = strong[ranks_list[-1]]["folded"]
    folding = {"reduction": strong[1]["folded"]["reduction"],
               "imbalance": max(runs["folded"]["fixup_imbalance"] for runs in strong.values()),
               "fixup_share": folded["phases"]["fix-up"]["bytes"] /
               sum(folded["phases"][phase]["bytes"] for phase in ("fold", "predictor", "fix-up"))}
    out["folding"] = folding
    out["constants"] = {name: {"value": value, "what": what, "source": source}
                        for name, (value, what, source) in model.CONSTANTS.items()}
    for shape in args.predict.split(","):
        out["predicted"][shape] = {
            "dense": model.predict(shape, None), "folded": model.predict(shape, folding)}
        out["traffic"].append(model.traffic(shape, strong[1]["folded"]["fallback"]))
    sent = strong[ranks_list[-1]]
    out["traffic"].append({"shape": args.shape, "ranks": ranks_list[-1], "measured_bytes_sent_per_token_and_layer":
                           {subject: sent[subject]["ranks"][0]["bytes_sent"] / args.layers for subject in sent}})
    with open(args.out, "w", encoding="utf-8") as file:
        json.dump(out, file, indent=1)
    for kind, subjects in out["measured"].items():
        for subject, points in subjects.items():
            for p in points:
                print(f"{kind:6} {subject:7} {p['ranks']} ranks: {p['tokens_per_second']:8.1f} tok/s measured, "
                      f"{p['predicted_tokens_per_second']:8.1f} predicted, efficiency {100 * p['efficiency']:3.0f}%")


if __name__ == "__main__":
    main()
