#!/usr/bin/env bash
# torture.sh PLEAT MODEL FOLDER: kills a batch job of two ranks with SIGKILL at KILLS random moments, resumes it each time, and
# compares what it leaves with the output of a job nobody disturbed: no record lost, none twice, no half line.
set -euo pipefail
pleat=$1 model=$2 folder=$3
kills=${KILLS:-50} records=${RECORDS:-120}
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_btl_vader_single_copy_mechanism=none
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi

mkdir -p "$folder"
input=$folder/in.jsonl output=$folder/out.jsonl reference=$folder/reference.jsonl log=$folder/log.txt
rm -f "$output" "$reference" "$log"
for ((i = 1; i <= records; ++i)); do
  echo "{\"custom_id\": \"r$i\", \"prompt\": \"Chapter $i\", \"max_tokens\": $((4 + i % 13)), \"temperature\": 0.8, \"seed\": $i}"
done >"$input"
echo 'not JSON' >>"$input"

job() { mpirun -np 2 "$pleat" generate --model "$model" --threads 1 --batch 4 --input "$input" --output "$1" --resume --quiet; }

# A process and all it started, itself first.
tree() {
  echo "$1"
  local child
  for child in $(cat /proc/"$1"/task/*/children 2>/dev/null || true); do tree "$child"; done
}

random() { echo $(((RANDOM * 32768 + RANDOM) % $1)); }

job "$reference" 2>>"$log"
[ "$(wc -l <"$reference")" = $((records + 1)) ] || { echo "the undisturbed job wrote $(wc -l <"$reference") lines"; exit 1; }

check() {
  if ! cmp -s <(sort "$output") <(sort "$reference"); then
    echo "kill $killed: the output differs from that of an undisturbed job:"
    diff <(sort "$output") <(sort "$reference") | head -5 || true
    exit 1
  fi
}

# The whole job, as a machine fails; or one rank or its guardian alone, as a process fails.
kill_some() {
  local victims
  mapfile -t victims < <(tree "$1")
  if [ ${#victims[@]} -gt 1 ] && [ "$(random 2)" = 0 ]; then
    kill -KILL "${victims[1 + $(random $((${#victims[@]} - 1)))]}" 2>/dev/null || true
  else
    kill -KILL "${victims[@]}" 2>/dev/null || true
  fi
}

killed=0 rounds=0
longest=${LONGEST_MS:-3000}
while [ "$killed" -lt "$kills" ]; do
  setsid mpirun -np 2 "$pleat" generate --model "$model" --threads 1 --batch 4 --input "$input" --output "$output" --resume \
    --quiet >>"$log" 2>&1 &
  running=$!
  sleep "$(printf '0.%03d' 200)"
  delay=$(random "$longest")
  sleep "$((delay / 1000)).$(printf '%03d' $((delay % 1000)))"
  if kill -0 "$running" 2>/dev/null; then
    kill_some "$running"
    killed=$((killed + 1))
    wait "$running" 2>/dev/null || true
    # What a power cut in the middle of a write leaves.
    if [ "$(random 3)" = 0 ]; then printf '{"id":"batch_req_1","custom_id":"r1","resp' >>"$output"; fi
  elif wait "$running"; then
    check
    rounds=$((rounds + 1))
    rm -f "$output"
  else
    echo "a job failed without being killed; see $log"
    exit 1
  fi
done
until job "$output" 2>>"$log"; do
  echo "the last resume failed; see $log"
  exit 1
done
check
echo "killed $killed times in $((rounds + 1)) jobs: all $((records + 1)) records once, the same texts"
