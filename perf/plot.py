#!/usr/bin/env python3
"""One HTML page of what was measured, pictures inside. It shows what a folder has of

  scaling.json        perf/scaling.py
  decode.jsonl        pleat bench decode --profile --json, and pleat bench prefill --json for the roofline
  serving.jsonl       perf/serving.py --json
  points.jsonl        perf/fold_curves.py
  folded/             pleat fold: fold_report.json, and the ranges in model.safetensors
"""
import argparse
import html
import io
import json
import math
import pathlib
import struct

import fold_curves

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("out", help="the HTML file to write")
parser.add_argument("folder")
args = parser.parse_args()
plt = fold_curves.pyplot(parser)
COLOURS = {"dense": "#444444", "folded": "crimson"}


def svg(figure):
    text = io.StringIO()
    figure.tight_layout()
    figure.savefig(text, format="svg")
    plt.close(figure)
    return text.getvalue()[text.getvalue().index("<svg"):]


def json_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]


def measured_scaling(scaling):
    figure, panels = plt.subplots(1, 2, figsize=(11, 4))
    for panel, (kind, subjects) in zip(panels, scaling["measured"].items()):
        for subject, points in subjects.items():
            ranks = [p["ranks"] for p in points]
            panel.plot(ranks, [p["tokens_per_second"] for p in points], "o-", color=COLOURS.get(subject), label=f"{subject}, measured")
            panel.plot(ranks, [p["predicted_tokens_per_second"] for p in points], "x--", color=COLOURS.get(subject),
                       label=f"{subject}, predicted")
        panel.axvline(scaling["cores"], color="grey", linewidth=.7)
        panel.set(title=f"{kind} scaling (grey: {scaling['cores']} cores)", xlabel="ranks", ylabel="tokens/s", xticks=ranks)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=.3)
        panel.legend()
    return svg(figure)


def rank_split(scaling):
    figure, panels = plt.subplots(1, 2, figsize=(11, 4), sharey=True)
    for panel, (subject, points) in zip(panels, scaling["measured"]["strong"].items()):
        bars = [(f"{p['ranks']}.{i}", rank) for p in points for i, rank in enumerate(p["per_rank"])]
        below = [0] * len(bars)
        for part, colour in (("compute_ms", "#2a6fbb"), ("collective_ms", "#7a9a3a"), ("wait_ms", "#cc8844")):
            heights = [rank[part] for _, rank in bars]
            panel.bar([name for name, _ in bars], heights, bottom=below, color=colour, label=part[:-3])
            below = [b + h for b, h in zip(below, heights)]
        panel.set(title=f"{subject}: ms a step, by ranks.rank", ylabel="ms")
        panel.legend()
    return svg(figure)


def predicted_scaling(scaling):
    shapes = scaling["predicted"]
    figure, panels = plt.subplots(1, len(shapes), figsize=(5.5 * len(shapes), 4.5), squeeze=False)
    for panel, (shape, subjects) in zip(panels[0], shapes.items()):
        for subject, fabrics in subjects.items():
            for number, (fabric, found) in enumerate(fabrics.items()):
                ranks = [p["ranks"] for p in found["points"]]
                speed = [p["tokens_per_second"] for p in found["points"]]
                panel.plot(ranks, speed, "-" if subject == "folded" else ":", color=f"C{number}", label=f"{subject}, {fabric}")
                best = ranks.index(found["best_ranks"])
                panel.plot(ranks[best], speed[best], "o", color=f"C{number}")
        panel.set(title=f"{shape}, batch 1 (a dot: more stops paying)", xlabel="GPUs", ylabel="tokens/s", xscale="log", yscale="log")
        panel.set_xticks(ranks, [str(r) for r in ranks])
        panel.grid(alpha=.3)
    panels[0][0].legend(fontsize=7)
    return svg(figure)


def roofline(lines):
    """The phases that multiply bf16 matrices: each byte of them takes part in one operation for every row of the step."""
    figure, panel = plt.subplots(figsize=(8, 4.5))
    decoding = [line for line in lines if "phases" in line]
    bandwidth = max(line["read_bandwidth_gb_per_second"] for line in decoding)
    compute = max((line["gflop_per_second"] for line in lines if "gflop_per_second" in line), default=math.inf)
    rows = [2 ** (i / 8) for i in range(65)]
    panel.plot(rows, [min(bandwidth * r, compute) for r in rows], color="black",
               label=f"{bandwidth:.1f} GB/s read; {compute:.0f} GFLOP/s in a prompt's products")
    for number, phase in enumerate(("attention", "dense FFN", "head")):
        for subject, colour in COLOURS.items():
            found = [(line["batch"], line["phases"][phase]) for line in decoding
                     if line["subject"] == subject and line["phases"].get(phase, {}).get("bytes", 0) > 0]
            if found:
                panel.plot([batch for batch, _ in found], [batch * f["bytes"] / f["ms"] / 1e6 for batch, f in found], "os^"[number],
                           color=colour, label=f"{subject}: {phase}")
    panel.set(title="roofline of a decode step", xlabel="operations a byte = rows of the step", ylabel="GFLOP/s", xscale="log", yscale="log")
    panel.legend(fontsize=7)
    panel.grid(alpha=.3)
    return svg(figure)


def step_breakdown(lines):
    lines = [line for line in lines if "phases" in line]
    figure, panel = plt.subplots(figsize=(9, 1 + .6 * len(lines)))
    phases = list(dict.fromkeys(phase for line in lines for phase in line.get("phases", {})))
    left = [0] * len(lines)
    for number, phase in enumerate(phases):
        widths = [line["phases"].get(phase, {}).get("ms", 0) for line in lines]
        panel.barh(range(len(lines)), widths, left=left, color=f"C{number}", label=phase)
        left = [a + b for a, b in zip(left, widths)]
    panel.set_yticks(range(len(lines)), [f"{line['subject']}, batch {line['batch']}" for line in lines])
    panel.set(title="a decode step", xlabel="ms")
    panel.legend(ncol=4, fontsize=7)
    return svg(figure)


def cell(value):
    return "" if value is None else f"{value:.1f}" if isinstance(value, float) else value


def serving_table(lines):
    columns = {"": "measured", "at most at once": "max_concurrency", "requests/s": "request_rate", "offered": "offered_rate",
               "whole": "completed", "turned away": "rejected", "tokens/s": "output_throughput", "first token p50, ms": "p50_ttft_ms",
               "p99": "p99_ttft_ms", "between tokens p50, ms": "p50_itl_ms", "p99 ": "p99_itl_ms"}
    rows = ["<table><tr>" + "".join(f"<th>{title}</th>" for title in columns) + "</tr>"]
    for line in lines:
        if line["measured"] != "overhead":
            rows.append("<tr>" + "".join(f"<td>{cell(line.get(name))}</td>" for name in columns.values()) + "</tr>")
    return "\n".join(rows + ["</table>"])


def curves(path, points):
    picture = path.with_name("curves-of-report.svg")
    fold_curves.draw(plt, points, picture, "perplexity against FFN bytes")
    text = picture.read_text()
    picture.unlink()
    return text[text.index("<svg"):]


def ranges(path):
    """[layer] of (low, high), a neuron each, of the layers that have them."""
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(size))
        found = {}
        for name, tensor in header.items():
            if name.startswith("pleat.layers.") and name.endswith((".range.low", ".range.high")):
                begin, end = tensor["data_offsets"]
                file.seek(8 + size + begin)
                found[name] = struct.unpack(f"<{(end - begin) // 4}f", file.read(end - begin))
    layers = sorted(int(name.split(".")[2]) for name in found if name.endswith("low"))
    return {n: list(zip(found[f"pleat.layers.{n}.range.low"], found[f"pleat.layers.{n}.range.high"])) for n in layers}


def range_density(folder, report):
    found = ranges(folder / "model.safetensors")
    figure, panels = plt.subplots(1, 2, figsize=(11, 4))
    steps = [-6 + .1 * i for i in range(121)]
    density = [[sum(low <= z <= high for low, high in neurons) / len(neurons) for z in steps] for neurons in found.values()]
    if density:
        picture = panels[0].imshow(density, aspect="auto", origin="lower", extent=(-6, 6, -.5, len(density) - .5), cmap="viridis")
        figure.colorbar(picture, ax=panels[0])
        panels[0].set_yticks(range(len(density)), list(found))
    panels[0].set(title="share of neurons whose line holds at z", xlabel="z, before the activation", ylabel="layer")
    layers = range(len(report["layers"]))
    panels[1].bar(layers, [100 * layer["fallback"] for layer in report["layers"]], color="crimson")
    panels[1].set(title="neurons computed exactly for a token, %", xlabel="layer")
    return svg(figure)


def traffic_table(scaling):
    rows = ["<table><tr><th>shape</th><th>ranks</th><th>this design</th><th>fetching exact neurons' rows</th></tr>"]
    for line in scaling["traffic"]:
        if "all_reduce" in line:
            rows.append(f"<tr><td>{line['shape']}, {100 * line['fallback']:.1f}% exact</td><td>{line['ranks']}</td>"
                        f"<td>{line['all_reduce'] / 1e3:.1f} KB</td><td>{line['fetching_rows'] / 1e3:.0f} KB</td></tr>")
    return "\n".join(rows + ["</table>"])


def sections(folder):
    folder = pathlib.Path(folder)
    if (path := folder / "scaling.json").exists():
        scaling = json.loads(path.read_text())
        yield "Scaling, measured beside predicted", measured_scaling(scaling)
        yield "Where each rank's time goes", rank_split(scaling)
        yield "Predicted for GPUs", predicted_scaling(scaling)
        yield "Bytes a rank sends or fetches for one token and layer", traffic_table(scaling)
    if (path := folder / "decode.jsonl").exists():
        yield "Roofline", roofline(json_lines(path))
        yield "A step's parts", step_breakdown(json_lines(path))
    if (path := folder / "serving.jsonl").exists():
        yield "Serving over HTTP", serving_table(json_lines(path))
    if (path := folder / "points.jsonl").exists():
        yield "Perplexity against bytes", curves(path, json_lines(path))
    if (path := folder / "folded" / "fold_report.json").exists():
        yield "Activation ranges", range_density(folder / "folded", json.loads(path.read_text()))


def main(target, folder):
    found = list(sections(folder))
    if not found:
        parser.error(f"{folder} has nothing to draw")
    body = "\n".join(f"<h2>{html.escape(title)}</h2>\n{picture}" for title, picture in found)
    pathlib.Path(target).write_text(f"<!doctype html>\n<meta charset=utf-8>\n<title>Pleat, measured</title>\n<style>body{{font-family:"
                                    f"sans-serif;max-width:1200px;margin:auto}}svg{{max-width:100%;height:auto}}td,th{{padding:2px 12px;"
                                    f"text-align:left}}</style>\n<h1>Pleat, measured</h1>\n{body}\n", encoding="utf-8")
    print(f"{target}: {', '.join(title for title, _ in found)}")


if __name__ == "__main__":
    main(args.out, args.folder)
