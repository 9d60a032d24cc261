#!/usr/bin/env bash
# perf/report.sh [BUILD_FOLDER] [OUT]: measures what OUT does not have yet, a few minutes, and makes OUT/report.html of it, one
# page without other files. perf/fold_curves.py's points.jsonl is shown where it lies in OUT (it takes an hour). Needs
# python3-matplotlib, which is looked for first.
#   BUILD_FOLDER     where pleat is: build where it is not named
#   OUT              out/report where it is not named; scaling.json, folded/, decode.jsonl and serving.jsonl in it
#                    are kept from run to run
# Exit code: 2 where an argument is wrong or something it needs is missing; then nothing is measured.
set -euo pipefail
case " $* " in *" -h "* | *" --help "*) sed -n '2,/^[^#]/s/^# \?//p' "$0" && exit ;; esac
cd "$(dirname "$(readlink -f "$0")")/.."
build=${1:-build} out=${2:-out/report} model=models/pleat-gpt2-9m
pleat=$build/pleat
(($# <= 2)) && [[ $build != -* && $out != -* ]] || { echo "report.sh: the arguments are [BUILD_FOLDER] [OUT], not '$*'" >&2; exit 2; }
for program in "$pleat" mpirun python3; do
  command -v "$program" >/dev/null || { echo "report.sh: there is no program $program" >&2; exit 2; }
done
python3 -c 'import matplotlib' 2>/dev/null || { echo "report.sh: Python has no matplotlib here (python3-matplotlib)" >&2; exit 2; }
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
