#!/usr/bin/env bash
# perf/report.sh [BUILD_FOLDER] [OUT]: measures what OUT does not have yet, a few minutes, and makes OUT/report.html of it, one
# page without other files. perf/fold_curves.py's points.jsonl is shown where it lies in OUT (it takes an hour). Needs
# python3-matplotlib.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
build=${1:-build} out=${2:-out/report} model=models/pleat-gpt2-9m
pleat=$build/pleat
mkdir -p "$out"

[ -e "$out/scaling.json" ] || python3 perf/scaling.py "$pleat" "$out/scaling.json"
[ -e "$out/folded/fold_report.json" ] ||
  "$pleat" fold --quiet --model $model --text examples/calibration.txt --out "$out/folded" --reduction 0.75
if [ ! -e "$out/decode.jsonl" ]; then
  for batch in 1 4 16; do
    "$pleat" bench decode --quiet --json --profile --model "$out/folded" --batch $batch --tokens 128
  done >"$out/decode.jsonl.part"
  "$pleat" bench prefill --quiet --json --model "$out/folded" --tokens 256 >>"$out/decode.jsonl.part"
  mv "$out/decode.jsonl.part" "$out/decode.jsonl"
fi
if [ ! -e "$out/serving.jsonl" ]; then
  python3 perf/serving.py "$build" --json "$out/serving.jsonl.part"
  mv "$out/serving.jsonl.part" "$out/serving.jsonl"
fi
python3 perf/plot.py "$out/report.html" "$out"
