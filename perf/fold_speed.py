#!/usr/bin/env python3
"""How much of the bytes that folding saves is saved time: the table of docs/folding.md.

    perf/fold_speed.py build/pleat --models BF16 INT4 RECIPE --batch 1 4 16
    perf/fold_speed.py build/pleat --shape falcon-7b --tokens 12

Several programs take turns, round by round, and so do the models; of each step the median round counts. A gain is tok/s
over those of the baseline, which the bytes of both steps predict; its share is what was reached of (predicted - 1). The
baselines are bf16, and int4 for what gathers int4 rows.
"""
import argparse
import json
import shutil
import statistics
import subprocess
import sys

FFN = ("dense FFN", "fold", "predictor", "fix-up")


def decode(pleat, args, *flags):
    """{batch: {subject: line}}"""
    command = [pleat, "bench", "decode", "--json", "--quiet", "--tokens", str(args.tokens), "--batch", *map(str, args.batch), *map(str, flags)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    lines = {batch: {} for batch in args.batch}
    for line in map(json.loads, done.stdout.splitlines()):
        lines[line["batch"]][line["subject"]] = line
    return lines


def round_of(pleat, args):
    """{batch: {name: line}} of every row of the table, the baselines first."""
    if args.shape:
        names = {"bf16": "dense", "int4": "int4", "folded, bf16 rows": "folded", "folded, int4 rows": "folded int4"}
        lines = decode(pleat, args, "--synthetic", args.shape, "--layers", args.layers, "--fold", "0.8", "--weights", "int4")
        return {batch: {name: lines[batch][subject] for name, subject in names.items()} for batch in args.batch}
    rows = {batch: {} for batch in args.batch}
    for i, model in enumerate(args.models):
        name = ("bf16", "int4")[i] if i < 2 else model.rstrip("/").split("/")[-1]
        for batch, lines in decode(pleat, args, "--model", model).items():
            rows[batch][name] = lines["folded"] if "folded" in lines else lines["dense"]
    return rows


def gain(line, base):
    predicted = base["weight_bytes_per_step"] / line["weight_bytes_per_step"]
    measured = line["tokens_per_second"] / base["tokens_per_second"]
    # Of a gain below a tenth the share is noise.
    share = f"{100 * (measured - 1) / (predicted - 1):.0f}%" if predicted >= 1.1 else ""
    return f"{predicted:.2f}x | {measured:.2f}x | {share}"


def summary(rounds):
    """One line of many: medians."""
    out = dict(rounds[0])
    out["tokens_per_second"] = statistics.median(line["tokens_per_second"] for line in rounds)
    out["ffn_ms"] = statistics.median(sum(line["phases"].get(name, {}).get("ms", 0) for name in FFN) for line in rounds)
    out["ffn_bytes"] = sum(rounds[0]["phases"].get(name, {}).get("bytes", 0) for name in FFN)
    return out


def print_table(name, batch, rows):
    print(f"\n{name}, batch {batch}\n")
    print("| | FFN MB a step | FFN, ms | tok/s | over bf16: by bytes | measured | share | over int4: by bytes | measured | share |")
    print("| --- " * 10 + "|")
    for row, line in rows.items():
        over_bf16 = gain(line, rows["bf16"]) if row != "bf16" else " | | "
        over_int4 = gain(line, rows["int4"]) if row not in ("bf16", "int4", "folded, bf16 rows") else " | | "
        print(f"| {row} | {line['ffn_bytes'] / 1e6:.1f} | {line['ffn_ms']:.2f} | {line['tokens_per_second']:.1f} | {over_bf16} | {over_int4} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pleat", nargs="+", help="programs")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--models", nargs="+", help="the two baselines, in bf16 and int4, then folded ones")
    what.add_argument("--shape", help="or random weights of a shape that `pleat bench decode --synthetic` knows")
    parser.add_argument("--layers", type=int, default=6, help="of the shape")
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--tokens", type=int, default=96, help="measured steps")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    for pleat in args.pleat:
        if not shutil.which(pleat):
            parser.error(f"there is no program {pleat}")
    rounds = {}
    for _ in range(args.rounds):
        for pleat in args.pleat:
            for batch, rows in round_of(pleat, args).items():
                for row, line in rows.items():
                    rounds.setdefault((pleat, batch), {}).setdefault(row, []).append(line)
    for (pleat, batch), rows in rounds.items():
        print_table(pleat, batch, {row: summary(lines) for row, lines in rows.items()})


if __name__ == "__main__":
    main()
