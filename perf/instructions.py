#!/usr/bin/env python3
"""Instructions of a decode step, counted by valgrind's callgrind: the same on every machine, however busy it is. It prints
them and compares with perf/instructions.json.

One thread of one rank, batch 1. Exit code 1 where a step needs over 10% more than is kept; one that needs over 10% less
is said, so that the table can be written anew. The emulated processor has AVX2, whatever the real one has.
"""
import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLE = ROOT / "perf" / "instructions.json"
STEP = "pleat::Engine::step(pleat::StepPlan const&)"
RUNS = (("embedded model", ["--model", str(ROOT / "models" / "pleat-gpt2-9m")]),
        ("tiny shape", ["--synthetic", "tiny", "--fold", "0.8", "--weights", "int4"]))
GROWTH = 1.1


def steps_of(pleat, name, flags):
    """Of each subject of the benchmark, which take turns: the instructions of its last step."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "callgrind"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--collect-atstart=no", f"--toggle-collect={STEP}",
                   f"--dump-after={STEP}", pleat, "bench", "decode", "--tokens", "2", "--threads", "1", "--json", *flags]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}\n{done.stderr}")
        subjects = [json.loads(line)["subject"] for line in done.stdout.splitlines()]
        dumps = sorted(pathlib.Path(folder).glob("callgrind.*"), key=lambda path: int(path.suffix[1:]))
        counts = [int(re.search(r"^summary: (\d+)", path.read_text(), re.M)[1]) for path in dumps]
        if len(counts) < len(subjects) or 0 in counts:
            sys.exit(f"{len(counts)} steps were counted: is '{STEP}' a function of {pleat}?")
        return {f"{name}, {subject}": count for subject, count in zip(subjects, counts[-len(subjects):])}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="the folder with pleat")
    parser.add_argument("--write", action="store_true", help="keep them in perf/instructions.json")
    args = parser.parse_args()
    pleat = str(pathlib.Path(args.build) / "pleat")
    for program in ("valgrind", pleat):
        if not shutil.which(program):
            parser.error(f"there is no program {program}")
    counts = {}
    for name, flags in RUNS:
        counts.update(steps_of(pleat, name, flags))
    if args.write:
        TABLE.write_text(json.dumps(counts, indent=2) + "\n")
    kept = json.loads(TABLE.read_text())
    failed = kept.keys() != counts.keys()
    if failed:
        print(f"{TABLE.name} is of other steps")
    for name, count in counts.items():
        ratio = count / kept.get(name, count)
        verdict = "  MORE" if ratio > GROWTH else "  less: write the table anew" if ratio < 1 / GROWTH else ""
        failed |= ratio > GROWTH
        print(f"{name:36} {count:10,d} instructions a step, {ratio:.3f} of {TABLE.name}{verdict}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
