"""Adds what was asked for, and whether it was reached, to what run_all.sh measured: it prints
them and keeps them in the same file.

All of it at the smallest batch that was measured.
"""
import argparse
import json
import os


def goal(text, asked, measured, at_least=True):
    reached = measured is not None and (measured >= asked if at_least else measured <= asked)
    status = "not measured" if measured is None else "pass" if reached else "fail"
    return {"goal": text, "asked": asked, "measured": measured, "status": status}


def smallest_batch(found):
    """{subject: line}"""
    least = min((line["batch"] for line in found), default=0)
    return {line["subject"]: line for line in found if line["batch"] == least}


def goals(results):
    """Those of every step that was to run, whatever it printed."""
    lines = results["lines"]
    for step in [each["step"] for each in results["steps"]]:
        kind, _, shape = step.partition("-")
        if kind not in ("decode", "ffn"):
            continue
        subjects = smallest_batch(lines.get(step, []))
        dense, folded = subjects.get("dense"), subjects.get("folded")
        if kind == "ffn":
            yield goal(f"{shape}: folded at 80%, times as fast as dense in the FFN", 2.5, folded and folded["ffn_speedup"])
            continue
        yield goal(f"{shape}: dense decode as a share of the copy bandwidth", 0.85, dense and dense["share_of_bandwidth"])
        yield goal(f"{shape}: folded at 80%, times as fast as dense end to end", 1.6,
                   dense and folded and dense["ms_per_step"] / folded["ms_per_step"])
    sums = [line["us"] for line in lines.get("kernel_lab", [])
            if line.get("valid") and line["kernel"].startswith("all_reduce") and line["shape"].startswith("2 ranks") and "[1, 4096]" in line["shape"]]
    yield goal("all-reduce of 16 KB between 2 ranks, us", 8, min(sums, default=None), at_least=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", help="results.json, as run_all.sh writes it")
    path = parser.parse_args().results
    if not os.path.isfile(path):
        parser.error(f"there is no file {path}")
    with open(path, encoding="utf-8") as file:
        results = json.load(file)
    results["goals"] = list(goals(results))
    for each in results["goals"]:
        measured = "" if each["measured"] is None else f' {each["measured"]:.3g}'
        print(f'{each["status"]}: {each["goal"]}:{measured} (asked: {each["asked"]})')
    with open(path, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)
        file.write("\n")


main()
