#!/usr/bin/env bash
# perf/run.sh [BUILD_FOLDER]: the measurements of docs/verified.md, about seven minutes on two quiet cores and 20 GB.
#   BUILD_FOLDER     where pleat and perf/bench_kernels are: build where it is not named
# It prints each command and what that prints; a model of 0.8 GB lies in a temporary folder meanwhile. Exit code: 2 where an
# argument is wrong or a program is missing; then nothing is measured.
set -euo pipefail
case " $* " in *" -h "* | *" --help "*) sed -n '2,/^[^#]/s/^# \?//p' "$0" && exit ;; esac
cd "$(dirname "$(readlink -f "$0")")/.."
build=${1:-build}
(($# <= 1)) && [[ $build != -* ]] || { echo "run.sh: the arguments are [BUILD_FOLDER], not '$*'" >&2; exit 2; }
for program in "$build/pleat" "$build/perf/bench_kernels" mpirun python3; do
  command -v "$program" >/dev/null || { echo "run.sh: there is no program $program" >&2; exit 2; }
done
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_btl_vader_single_copy_mechanism=none
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi

run() {
  printf '\n$ %s\n' "$*"
  "$@"
}

run "$build/perf/bench_kernels" --benchmark_filter='products|gather' --benchmark_counters_tabular=true
run "$build/pleat" bench decode --synthetic gpt2-xl
run "$build/pleat" bench decode --synthetic falcon-7b --fold 0.8 --tokens 16
run mpirun -np 2 "$build/pleat" bench decode --synthetic gpt2-xl --layers 24 --tokens 16
run "$build/pleat" bench prefill --synthetic gpt2-xl --layers 8 --tokens 256
run mpirun -np 2 "$build/pleat" check
checkpoint=$(mktemp -d)
trap 'rm -rf "$checkpoint"' EXIT
run python3 perf/make_checkpoint.py "$checkpoint" 1600 12
run "$build/pleat" bench load --model "$checkpoint"
run mpirun -np 2 "$build/pleat" bench load --model "$checkpoint"
run python3 perf/serving.py "$build"
