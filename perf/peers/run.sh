#!/usr/bin/env bash
# perf/peers/run.sh BUILD [options of compare.py]: Pleat beside other engines on this machine (README.md). The engines are
# installed under BUILD/peers the first time (20 minutes, 6 GB), then compare.py measures.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
case " $* " in *" -h "* | *" --help "*) sed -n '2,/^[^#]/s/^# \?//p' "$0" && exec python3 "$here/compare.py" --help ;; esac
[[ ${1:--} != -* ]] || { echo "run.sh: the arguments are BUILD [options of compare.py], not '$*'" >&2; exit 2; }
build=$(readlink -m "$1")
shift
PYTHONPATH=$here python3 -c 'import compare; compare.arguments()' --build "$build" "$@"  # before anything is installed
venv=$build/peers/venv

# Named one by one: a compiler's "native" would also use instructions that are shown but trap.
instructions() {
  local flags="-DLLAVA_BUILD=OFF -DGGML_NATIVE=OFF" name
  for name in sse4_2:SSE42 avx:AVX avx2:AVX2 fma:FMA f16c:F16C bmi2:BMI2 avx512_vnni:AVX512_VNNI avx512_bf16:AVX512_BF16; do
    if grep -qw "${name%%:*}" /proc/cpuinfo; then flags+=" -DGGML_${name##*:}=ON"; else flags+=" -DGGML_${name##*:}=OFF"; fi
  done
  if grep -qw avx512f /proc/cpuinfo && grep -qw avx512vl /proc/cpuinfo; then flags+=" -DGGML_AVX512=ON"; fi
  echo "$flags"
}

if [ ! -e "$venv/done" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet -r "$here/requirements.txt"
  CMAKE_ARGS=$(instructions) "$venv/bin/pip" install --quiet --no-binary llama-cpp-python llama-cpp-python==0.3.36
  touch "$venv/done"
fi
exec "$venv/bin/python" "$here/compare.py" --build "$build" "$@"
