"""Draws what run_all.sh measured, as an SVG without any package: plot.py results.json results.svg

Bars of GB/s, one a kernel and shape and one a decoding model, against the device's copy bandwidth.
"""
import json
import sys
from xml.sax.saxutils import escape

WIDTH, ROW, LEFT, BARS = 1100, 18, 520, 480


def bars(results):
    """(label, GB/s, colour) from top to bottom."""
    lines = results["lines"]
    for step, found in lines.items():
        for line in found:
            if step.startswith("decode-") and "gb_per_second" in line:
                yield f'decode {step[7:].rsplit("-", 1)[0]}, {line["subject"]}, batch {line["batch"]}', line["gb_per_second"], "#2a6fbb"
    for line in lines.get("kernel_lab", []):
        if line.get("valid") and line.get("bytes"):
            yield f'{line["kernel"]}, {line["shape"]}', line["gb_per_second"], "#7a9a3a"


def main(source, target):
    with open(source, encoding="utf-8") as file:
        results = json.load(file)
    copy = results["device"]["copy_gb_per_second"]
    if "kernel_lab" in results["lines"]:
        copy = results["lines"]["kernel_lab"][0]["copy_gb_per_second"]
    rows = list(bars(results))
    longest = max([copy] + [value for _, value, _ in rows])
    height = ROW * (len(rows) + len(results["steps"]) + 6)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="11">',
           f'<rect width="{WIDTH}" height="{height}" fill="white"/>']

    def say(x, y, words, anchor="start", colour="black"):
        out.append(f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>')

    say(10, ROW, f'{results["device"]["device"]}, {results["date"]}: GB/s; the line is a copy\'s, {copy:.0f} GB/s')
    y = 2 * ROW
    for label, value, colour in rows:
        say(LEFT - 8, y + 12, label, "end")
        out.append(f'<rect x="{LEFT}" y="{y + 3}" width="{BARS * value / longest:.1f}" height="{ROW - 6}" fill="{colour}"/>')
        say(LEFT + BARS * value / longest + 4, y + 12, f"{value:.0f} ({100 * value / copy:.0f}%)")
        y += ROW
    at = LEFT + BARS * copy / longest
    out.append(f'<line x1="{at}" x2="{at}" y1="{2 * ROW}" y2="{y}" stroke="black" stroke-dasharray="4 3"/>')
    y += ROW
    for step in results["steps"]:
        colour = {"passed": "#2a7a2a", "failed": "#b02020"}.get(step["status"], "#777777")
        say(10, y + 12, f'{step["status"]} {step["step"]} ({step["seconds"]} s) {step["reason"][:150]}', colour=colour)
        y += ROW
    out.append("</svg>")
    with open(target, "w", encoding="utf-8") as file:
        file.write("\n".join(out) + "\n")


main(*sys.argv[1:])
