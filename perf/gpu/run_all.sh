#!/usr/bin/env bash
# perf/gpu/run_all.sh [--bin FOLDER] [--out FOLDER] [--tiny]: all that is to be known of one GPU, in under 8 minutes:
# the tests of kernels, sums and engine, compute-sanitizer, the kernel lab, decoding and prompts of two models' shapes.
# It needs the programs of FOLDER or FOLDER.tar.gz (`cmake --build --preset gpu` leaves both as build-gpu/gpu), the source
# tree around it, glibc 2.34 (pack.sh), a libcublasLt.so.13 (of CUDA 13 or PyTorch) and no network. Each step has its own
# time limit and none stops the others.
#   OUT/results.json  what each step said and took, and why it failed; by goals.py, where there is Python, what was
#                     asked for and whether it was reached
#   OUT/results.svg   the picture of it, by plot.py where there is Python
#   --bin, --out      build-gpu/gpu and out/gpu where they are not named
#   --tiny            sizes for the emulator's programs, which a test runs
# Exit code: 0 all steps passed or had nothing to run on; 1 one failed; 2 there is no GPU, a program or library is missing,
# and neither JSON nor picture is left, not even an earlier run's.
set -uo pipefail
case " $* " in *" -h "* | *" --help "*) sed -n '2,/^[^#]/s/^# \?//p' "$0" && exit ;; esac
cd "$(dirname "$(readlink -f "$0")")/../.."
bin=build-gpu/gpu out=out/gpu tiny=
while (($#)); do
  case $1 in
    --bin | --out) (($# > 1)) || { echo "run_all.sh: $1 needs a folder" >&2; exit 2; } ;;&
    --bin) bin=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --tiny) tiny=1; shift ;;
    *) echo "run_all.sh: unknown argument '$1'" >&2; exit 2 ;;
  esac
done

rm -f "$out"/steps/* "$out"/steps.jsonl "$out"/results.{json,svg}
if [[ ! -d $bin && -f $bin.tar.gz ]]; then
  mkdir -p "$out"
  tar -C "$out" --recursive-unlink -xzf "$bin.tar.gz" && bin=$out/$(basename "$bin")
fi
bin=$(readlink -m "$bin")
for program in pleat kernel_lab cuda_kernels_test cuda_parallel_test cuda_ipc_test cuda_engine_test; do
  [[ -x $bin/$program ]] || { echo "run_all.sh: there is no program $bin/$program" >&2; exit 2; }
done
mkdir -p "$out/steps"

# Libraries that came along, and those of the machine that are too large to: CUDA's, or what PyTorch brings. For the
# programs alone: Python has its own.
package() { python3 -c "import $1; print(list($1.__path__)[0] + '/lib')" 2>/dev/null; }
libraries=$bin/lib
for folder in $(ls -d /usr/local/cuda*/lib64 2>/dev/null) "$(package nvidia.cu13)" "$(package nvidia.nccl)"; do
  [[ ! -d $folder ]] || libraries+=:$folder
done
libraries+=${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
# GCC's own came along too, and need a newer glibc than the programs do: for where the machine's are missing or too old.
if [[ $(LD_LIBRARY_PATH=$libraries ldd "$bin"/* 2>&1 | grep -E 'lib(stdc\+\+|gcc_s)\.so.* not found') ]]; then
  libraries=$bin/lib/gcc:$libraries
fi
with_libraries=(env LD_LIBRARY_PATH="$libraries")
# Tests' ranks are threads that share the device (tests/kernels/cuda/on_a_device.cpp).
export CUDA_MODULE_LOADING=EAGER CUDA_DEVICE_MAX_CONNECTIONS=32

text() { tr -cd '\11\12\40-\176' | tail -c 600 | sed 's/\\/\\\\/g; s/"/\\"/g; s/\t/ /g' | awk '{ printf "%s%s", sep, $0; sep = "\\n" }'; }

failed=0
# record NAME STATUS SECONDS REASON: a line of steps.jsonl.
record() {
  printf '{"step": "%s", "status": "%s", "seconds": %s, "reason": "%s"}\n' "$1" "$2" "$3" "$4" >>"$out/steps.jsonl"
  echo "$2 $1 ($3 s)${4:+: ${4:0:300}}"
  [[ $2 != failed ]] || failed=1
}
skip() { record "$1" skipped 0 "$2"; }
# limited SECONDS COMMAND...: exit code 124 where it took longer, as of timeout, also where it had to be killed.
limited() {
  local start=$SECONDS code
  timeout -k 5 "$@" </dev/null
  code=$?
  ((code != 137 || SECONDS - start < $1)) || code=124
  return $code
}
# step NAME LIMIT_SECONDS COMMAND...: what it prints goes to steps/NAME.out and .err. All together end before 8 minutes.
step() {
  local name=$1 limit=$2 start=$SECONDS left=$((465 - SECONDS)) code took
  shift 2
  if ((left < 5)); then
    record "$name" failed 0 "no time was left for it"
    return
  fi
  ((limit <= left)) || limit=$left
  limited "$limit" "$@" >"$out/steps/$name.out" 2>"$out/steps/$name.err"
  code=$? took=$((SECONDS - start))
  case $code in
    0) record "$name" passed $took "" ;;
    124) record "$name" failed $took "longer than $limit s" ;;
    137) record "$name" failed $took "killed before its $limit s were over, as where memory runs out" ;;
    *) record "$name" failed $took \
      "exit code $code: $( (grep -hE 'FAILED|"valid":false' "$out/steps/$name.out" | head -20; tail -3 "$out/steps/$name.err") | text)" ;;
  esac
}

limited 60 "${with_libraries[@]}" "$bin/kernel_lab" tiny none >"$out/steps/device.out" 2>"$out/steps/device.err"
code=$?
if ((code != 0)); then
  if ((code == 124)); then
    echo "run_all.sh: the GPU's driver did not answer in 60 s" >&2
  elif grep -q libcublasLt "$out/steps/device.err"; then
    echo "run_all.sh: there is no libcublasLt.so.13 here, neither CUDA 13's nor PyTorch's (pip install nvidia-cublas)" >&2
  else
    tail -1 "$out/steps/device.err" >&2
  fi
  exit 2
fi
size=full kernels= sums= processes= engine=
# What compute-sanitizer looks at, in two steps a tool: products, and everything else that is Pleat's own, but for kernels
# that wait for each other, which it may run one after the other.
products=*Gemm*:*MultiplyRows*:*MultiplyLeaves*:*Planes*:*PlaneRows*:*FixUp*:*Transposed*
declare -A sanitized=([products]=$products [others]="-$products:*BlasLt*:AllReduce*")
shapes="falcon-7b llama-3-8b" layers=12 batches="1 4 16 64" tokens=24 prompt=1024
if [[ $tiny ]]; then
  size=tiny kernels=--gtest_filter=*Norm* engine=--gtest_filter=*gpt2*
  sums=--gtest_filter=StagedSum.*:PeerSum.HasTheBits* processes=--gtest_filter=PeerSumOfProcesses.HasTheBits*
  shapes=tiny layers=1 batches="1 3" tokens=4 prompt=20
fi

step kernel_tests 120 "${with_libraries[@]}" "$bin/cuda_kernels_test" $kernels
step sums_tests 30 "${with_libraries[@]}" "$bin/cuda_parallel_test" $sums
step processes_tests 30 "${with_libraries[@]}" "$bin/cuda_ipc_test" $processes
step engine_tests 90 "${with_libraries[@]}" "$bin/cuda_engine_test" $engine
step kernel_lab 100 "${with_libraries[@]}" "$bin/kernel_lab" "$size"
for shape in $shapes; do
  step "decode-$shape" 100 "${with_libraries[@]}" "$bin/pleat" bench decode --device cuda --json --quiet --synthetic "$shape" \
    --layers $layers --fold 0.8 --weights int4 --batch $batches --tokens $tokens
  step "prefill-$shape" 60 "${with_libraries[@]}" "$bin/pleat" bench prefill --device cuda --json --quiet --synthetic "$shape" \
    --layers $layers --weights int4 --tokens $prompt
done
shape=${shapes%% *}
step "ffn-$shape" 60 "${with_libraries[@]}" "$bin/pleat" bench fold --device cuda --json --quiet --synthetic "$shape" --layers $layers \
  --fold 0.8 --batch 1 --tokens $tokens
if [[ $tiny ]]; then
  skip transformers "the emulator is no match for it"
elif python3 -c 'import torch, transformers' 2>/dev/null; then
  step transformers 60 python3 perf/gpu/transformers_speed.py $layers
else
  skip transformers "Python has no torch and transformers here"
fi
if [[ $tiny ]]; then
  skip nccl "the emulator's NCCL is for ranks that are threads"
elif [[ ! -x $bin/cuda_nccl_test ]]; then
  skip nccl "cuda_nccl_test was not built"
elif ! "${with_libraries[@]}" "$bin/cuda_nccl_test" --gtest_list_tests >/dev/null 2>&1; then
  skip nccl "there is no libnccl.so.2 here"
else
  step nccl 60 "${with_libraries[@]}" "$bin/cuda_nccl_test"
fi
looks=(--error-exitcode 9 --report-api-errors no)  # a test makes a call that must fail
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | head -1)
for tool in memcheck racecheck; do
  for part in products others; do
    if [[ $tiny || ! $sanitizer ]]; then
      skip $tool-$part "there is no compute-sanitizer here"
    else
      step $tool-$part 40 "${with_libraries[@]}" "$sanitizer" --tool $tool "${looks[@]}" "$bin/cuda_kernels_test" --gtest_filter="${sanitized[$part]}"
    fi
  done
done

# One JSON: the steps, and every line of JSON that they printed.
{
  printf '{"machine": "%s",\n "date": "%s",\n "device": %s,\n' "$(uname -srm)" "$(date -u +%FT%TZ)" "$(head -1 "$out/steps/device.out")"
  printf ' "steps": [%s],\n' "$(paste -sd, "$out/steps.jsonl")"
  printf ' "lines": {'
  sep=
  for lines in "$out"/steps/*.out; do
    found=$(grep -E '^\{.*\}$' "$lines" | paste -sd,)
    [[ $found ]] || continue
    printf '%s\n  "%s": [%s]' "$sep" "$(basename "$lines" .out)" "$found"
    sep=,
  done
  printf '\n }\n}\n'
} >"$out/results.json"
if command -v python3 >/dev/null; then
  python3 perf/gpu/goals.py "$out/results.json" || failed=1
  python3 perf/gpu/plot.py "$out/results.json" "$out/results.svg" || failed=1
else
  echo "no picture: there is no Python here; run python3 perf/gpu/plot.py $out/results.json $out/results.svg elsewhere"
fi
exit $failed
