"""Draws what run_all.sh measured, as an SVG without any package.

Bars of GB/s, one a kernel and shape and one a decoding model, against the device's copy bandwidth; of tokens a second,
Pleat's beside transformers'; of all-reduces' microseconds. Then what was asked for, and the steps.
"""
import argparse
import json
import os
from xml.sax.saxutils import escape

WIDTH, ROW, LEFT, BARS = 1100, 18, 520, 480
BLUE, GREEN, GREY, RED, DARK = "#2a6fbb", "#7a9a3a", "#777777", "#b02020", "#2a7a2a"


def decodes(lines):
    """(shape, batch, line) of every decoding subject."""
    for step, found in lines.items():
        for line in found:
            if step.startswith("decode-") and "gb_per_second" in line:
                yield step[7:], line["batch"], line


def bandwidths(lines):
    for shape, batch, line in decodes(lines):
        yield f'decode {shape}, {line["subject"]}, batch {batch}', line["gb_per_second"], BLUE
    for line in lines.get("kernel_lab", []):
        if line.get("valid") and line.get("bytes") and not line["kernel"].startswith("all_reduce"):
            yield f'{line["kernel"]}, {line["shape"]}', line["gb_per_second"], GREEN


def speeds(lines):
    rows = [(f"decode {shape}, batch {batch}", line["subject"], line["tokens_per_second"], BLUE) for shape, batch, line in decodes(lines)]
    for step, found in lines.items():
        if step.startswith("prefill-"):
            rows += [(f'prefill {step[8:]}, {line["tokens"]} tokens', line["subject"], line["tokens_per_second"], BLUE) for line in found]
    for line in lines.get("transformers", []):
        if line["kind"] == "decode":
            rows.append((f'decode {line["shape"]}, batch {line["batch"]}', "transformers", 1e3 * line["batch"] / line["ms_per_step"], GREY))
        if line["kind"] == "prefill":
            rows.append((f'prefill {line["shape"]}, {line["tokens"]} tokens', "transformers", line["tokens"] / line["seconds"], GREY))
    places = {}
    for what, *_ in rows:
        places.setdefault(what, len(places))
    for what, who, value, colour in sorted(rows, key=lambda row: places[row[0]]):
        yield f"{what}: {who}", value, colour


def latencies(lines):
    for line in lines.get("kernel_lab", []):
        if line.get("valid") and line["kernel"].startswith("all_reduce"):
            yield f'{line["kernel"]}, {line["shape"]}', line["us"], GREEN


class Picture:
    def __init__(self):
        self.out, self.y = [], ROW

    def say(self, x, y, words, anchor="start", colour="black"):
        self.out.append(f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>')

    def line(self, words, colour="black"):
        self.say(10, self.y + 12, words, colour=colour)
        self.y += ROW

    def bars(self, title, rows, longest, text):
        self.line(title)
        for label, value, colour in rows:
            self.say(LEFT - 8, self.y + 12, label, "end")
            self.out.append(f'<rect x="{LEFT}" y="{self.y + 3}" width="{BARS * value / longest:.1f}" height="{ROW - 6}" fill="{colour}"/>')
            self.say(LEFT + BARS * value / longest + 4, self.y + 12, text(value))
            self.y += ROW
        self.y += ROW

    def svg(self):
        return "\n".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{self.y + ROW}" font-family="sans-serif" font-size="11">',
            f'<rect width="{WIDTH}" height="{self.y + ROW}" fill="white"/>', *self.out, "</svg>\n"])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", help="results.json, as run_all.sh writes it")
    parser.add_argument("picture", help="the SVG to write")
    args = parser.parse_args()
    if not os.path.isfile(args.results):
        parser.error(f"there is no file {args.results}")
    with open(args.results, encoding="utf-8") as file:
        results = json.load(file)
    lines = results["lines"]
    copy = lines.get("kernel_lab", [results["device"]])[0]["copy_gb_per_second"]
    picture = Picture()
    rows = list(bandwidths(lines))
    longest, top = max([copy] + [value for _, value, _ in rows]), picture.y + ROW
    picture.bars(f'{results["device"]["device"]}, {results["date"]}: GB/s; the line is a copy\'s, {copy:.0f} GB/s', rows, longest,
                 lambda value: f"{value:.0f} ({100 * value / copy:.0f}%)")
    at = LEFT + BARS * copy / longest
    picture.out.append(f'<line x1="{at}" x2="{at}" y1="{top}" y2="{picture.y - ROW}" stroke="black" stroke-dasharray="4 3"/>')
    for title, rows, text in (("tokens a second", list(speeds(lines)), "{:.0f}"), ("all-reduces, us", list(latencies(lines)), "{:.1f}")):
        if rows:
            picture.bars(title, rows, max(value for _, value, _ in rows), text.format)
    for each in results.get("goals", []):
        measured = "" if each["measured"] is None else f': {each["measured"]:.3g}'
        picture.line(f'{each["status"]}: {each["goal"]}{measured} (asked: {each["asked"]})', {"pass": DARK, "fail": RED}.get(each["status"], GREY))
    for step in results["steps"]:
        picture.line(f'{step["status"]} {step["step"]} ({step["seconds"]} s) {step["reason"][:150]}',
                     {"passed": DARK, "failed": RED}.get(step["status"], GREY))
    with open(args.picture, "w", encoding="utf-8") as file:
        file.write(picture.svg())


main()
