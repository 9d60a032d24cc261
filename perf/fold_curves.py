#!/usr/bin/env python3
"""Perplexity against FFN bytes read, of every selection, of plain quantisation and of recipes: a table and a picture.

  OUT/points.jsonl  one line a point, kept: a second run adds what is missing
  OUT/curves.svg    batch 1, 4 and 16 side by side
Bytes are shares of the dense FFN in bf16. Selections prompt and core are evaluated with a prompt of 128 tokens; the loss of
the tokens behind it is what is shown, as for all others.
"""
import argparse
import json
import math
import os
import shutil
import subprocess
import sys

PROMPT = 128
WINDOW = 512
FLOOR = .05  # % of perplexity: below lies noise


def run(*command):
    out = subprocess.run(command, capture_output=True, text=True)
    if out.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{out.stderr}")
    return json.loads(out.stdout.strip().splitlines()[-1])


def percents(text):
    return [int(percent) for percent in text.split(",") if percent]


def configurations(gated, budgets):
    """(curve, name, flags of `pleat fold`)."""
    for rows in ("int8", "int5", "int4", "int3", "int2"):
        yield "plain quantisation", rows, ["--select", "all", "--rows", rows]
    yield "plain quantisation", "int3, down int4", ["--select", "all", "--rows", "int3", "--down", "int4"]
    chosen = ("gate", "predictor") if gated else ("range",)
    reductions = {"gate": (.25, .4), "predictor": (.4, .53), "range": (.7, .75, .8)}
    for select in chosen:
        for reduction in reductions[select]:
            yield f"{select}, bf16 rows", f"{reduction:g}", ["--select", select, "--reduction", str(reduction)]
        for reduction in (.74, .78, .8, .82) if select == "range" else (.72, .76, .79) if select == "gate" else ():
            yield f"{select}, int4 rows", f"{reduction:g}", ["--select", select, "--reduction", str(reduction), "--rows", "int4"]
    for select in ("threshold", "prompt", "core", "static"):
        for reduction in (.3, .5) if select != "threshold" else ((.15, .3) if not gated else (.3, .45)):
            yield f"{select}, bf16 rows", f"{reduction:g}", ["--select", select, "--reduction", str(reduction)]
    for select, reduction, name in ((("threshold", .4, "30%"),) if gated else
                                    (("static", .635, "30%"), ("prompt", .435, "50%"), ("core", .435, "50%"))):
        yield f"{select}, as published", name, ["--select", select, "--reduction", str(reduction)]
        yield f"{select}, as published", name + ", no fold", ["--select", select, "--reduction", str(reduction + .065), "--no-fold"]
    for budget in budgets:
        yield "recipe", f"{budget}%", ["--budget", f"{budget}%"]


def evaluate(pleat, folder, text, tokens, prompt):
    flags = ["--exact-prefix", str(prompt)] if prompt > 1 else []
    return run(pleat, "eval", "--model", folder, "--text", text, "--max-tokens", str(tokens), "--json", "--quiet", *flags)


def measure(args, curve, name, flags, dense):
    folder = os.path.join(args.out, "folded")
    shutil.rmtree(folder, ignore_errors=True)
    options = os.path.join(args.out, "options.json")
    if "--budget" in flags and os.path.exists(options):
        flags = flags + ["--options", options]
    report = run(args.pleat, "fold", "--model", args.model, "--text", args.calibration, "--out", folder, "--max-tokens",
                 str(args.tokens), "--json", "--quiet", *flags)
    if "--budget" in flags:
        shutil.copy(os.path.join(folder, "options.json"), options)
    by_prompt = curve.startswith(("prompt", "core"))
    nll = evaluate(args.pleat, folder, args.heldout, args.eval_tokens, PROMPT if by_prompt else 1)["mean_nll"]
    # `eval` scores a prompt's own rows too, which run densely: the whole difference falls on those behind it.
    share = (WINDOW - 1 - PROMPT) / (WINDOW - 1) if by_prompt else 1
    total = report["total"]
    return {"curve": curve, "name": name, "flags": flags, "recipe": report["recipe"],
            "read": [total["bytes_read"][batch] / total["bytes_dense"] for batch in ("1", "4", "16")],
            "stored": total["bytes_stored"] / total["bytes_dense"], "kl": report["kl"],
            "ratio": math.exp((nll - dense) / share), "budget": report.get("budget")}


def pyplot(parser):
    """Drawing's only package, which help does without."""
    try:
        import matplotlib
    except ImportError:
        parser.error("Python has no matplotlib here (python3-matplotlib)")
    matplotlib.use("Agg")
    from matplotlib import pyplot
    return pyplot


def draw(plt, points, path, title):
    figure, panels = plt.subplots(1, 3, figsize=(13, 5), sharey=True)
    curves = list(dict.fromkeys(point["curve"] for point in points))
    for index, (panel, batch) in enumerate(zip(panels, (1, 4, 16))):
        for number, curve in enumerate(curves):
            mine = sorted((p["read"][index] * 100, max(100 * (p["ratio"] - 1), FLOOR)) for p in points if p["curve"] == curve)
            thick = {"plain quantisation": "black", "recipe": "crimson"}.get(curve)
            panel.plot([x for x, _ in mine], [y for _, y in mine], marker="os^vDPX*<>d"[number % 11], markersize=5,
                       linewidth=2 if thick else 1, color=thick or f"C{number % 10}", label=curve)
        panel.set_title(f"{batch} row{'s' if batch > 1 else ''} a step")
        panel.set_xlabel("FFN bytes read, % of dense bf16")
        panel.set_xlim(12, 120)
        panel.grid(alpha=.3)
    panels[0].set_ylabel("perplexity above dense, %")
    panels[0].set_yscale("log")
    panels[0].set_ylim(FLOOR, 1000)
    panels[0].set_yticks([.1, .3, 1, 3, 10, 30, 100, 300, 1000], [".1", ".3", "1", "3", "10", "30", "100", "300", "1000"])
    panels[0].minorticks_off()
    figure.suptitle(title)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="lower center", ncol=5, frameon=False)
    figure.tight_layout(rect=(0, .1, 1, 1))
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pleat", help="the program")
    parser.add_argument("model", help="a folder or GGUF file")
    parser.add_argument("calibration", help="a text to fold on")
    parser.add_argument("heldout", help="another, to evaluate")
    parser.add_argument("out", help="the folder of points and picture")
    parser.add_argument("--tokens", type=int, default=32768, help="of the first text at most")
    parser.add_argument("--eval-tokens", type=int, default=8192, help="of the other")
    parser.add_argument("--budgets", type=percents, default="16,18,20,22,24,26,28", help="of the recipes, %%")
    parser.add_argument("--only", nargs="+", default=[""], help="curves whose name begins so")
    args = parser.parse_args()
    if not shutil.which(args.pleat):
        parser.error(f"there is no program {args.pleat}")
    plt = pyplot(parser)
    os.makedirs(args.out, exist_ok=True)
    path = os.path.join(args.out, "points.jsonl")
    points = [json.loads(line) for line in open(path)] if os.path.exists(path) else []
    gated = run(args.pleat, "inspect", "--model", args.model, "--json")["blueprint"]["gated"]
    dense = evaluate(args.pleat, args.model, args.heldout, args.eval_tokens, 1)
    done = {(point["curve"], point["name"]) for point in points}
    for curve, name, flags in configurations(gated, args.budgets):
        if (curve, name) in done or not curve.startswith(tuple(args.only)):
            continue
        point = measure(args, curve, name, flags, dense["mean_nll"])
        points.append(point)
        with open(path, "a") as file:
            file.write(json.dumps(point) + "\n")
        print(f"{curve:24} {name:6} read {' / '.join(f'{100 * r:.1f}' for r in point['read'])} stored {100 * point['stored']:.1f} "
              f"perplexity {point['ratio'] * dense['perplexity']:.3f} = {point['ratio']:.4f}x  KL {point['kl']:.4f}", flush=True)
    draw(plt, points, os.path.join(args.out, "curves.svg"),
         f"{os.path.basename(args.model)}, dense perplexity {dense['perplexity']:.2f}")


if __name__ == "__main__":
    main()
