#!/usr/bin/env bash
# one_node.sh PLEAT MODEL: the batch scripts of docs/deploy, submitted to a Slurm of one node that runs on this host's loopback
# for the time of the test. Needs Debian's slurmctld, slurmd and slurm-client.
set -euo pipefail
pleat=$(realpath "$1") model=$(realpath "$2")
source=$(realpath "$(dirname "$0")/../../..")
folder=$(mktemp -d)
daemons=()

finish() {
  local code=$?
  [ "$code" = 0 ] || { for log in "$folder"/*.log "$folder"/*.out; do echo "== $log"; tail -25 "$log"; done; } >&2
  kill "${daemons[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$folder"
}
trap finish EXIT

# Below the ports that the kernel gives to outgoing connections.
port=$((12000 + RANDOM % 20000))
export SLURM_CONF=$folder/slurm.conf
mkdir "$folder/state" "$folder/spool"
cat >"$SLURM_CONF" <<EOF
ClusterName=pleat
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SrunPortRange=$((port + 2))-$((port + 40))
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmdParameters=config_overrides
KillWait=5
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
EOF
/usr/sbin/slurmctld -D >"$folder/slurmctld.log" 2>&1 &
daemons+=($!)
/usr/sbin/slurmd -D >"$folder/slurmd.log" 2>&1 &
daemons+=($!)

# wait_for SECONDS COMMAND...: until the command succeeds.
wait_for() {
  local end=$((SECONDS + $1))
  shift
  until "$@" 2>/dev/null; do
    [ $SECONDS -lt $end ] || { echo "waited in vain for: $*" >&2; return 1; }
    sleep 0.3
  done
}
is_idle() { [ "$(sinfo -h -o %T)" = idle ]; }
state_of() { scontrol show job "$1" | sed -nE 's/.*JobState=([A-Z]+).*/\1/p'; }
has_state() { [ "$(state_of "$1")" = "$2" ]; }
submit() { sbatch --parsable --nodes=1 --ntasks-per-node=2 --cpus-per-task=1 --chdir="$source" --output="$folder/%x.out" "$@"; }
wait_for 30 is_idle

export PLEAT=$pleat MODEL=$model
# As on a cluster, where nobody has asked for more ranks than slots.
unset OMPI_MCA_rmaps_base_oversubscribe
export OMPI_MCA_btl_vader_single_copy_mechanism=none
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi

# A batch job writes what one rank writes.
export INPUT=$source/examples/prompts.jsonl OUTPUT=$folder/out.jsonl
"$pleat" generate --model "$model" --input "$INPUT" --output "$folder/reference.jsonl" --quiet
job=$(submit docs/deploy/slurm-batch.sh)
wait_for 60 has_state "$job" COMPLETED
cmp <(sort "$OUTPUT") <(sort "$folder/reference.jsonl")
echo "slurm-batch.sh: the texts of one rank"

# A server answers, and drains when Slurm tells its script that time is nearly over.
export PORT=$((port + 50)) ADDRESS=127.0.0.1
job=$(submit docs/deploy/slurm-serve.sh)
text=$("$pleat" generate --model "$model" --prompt 'The shared library' --max-tokens 12 --quiet)
answers() { [ "$("$pleat" ask "$(hostname):$PORT" --prompt 'The shared library' --max-tokens 12)" = "$text" ]; }
wait_for 60 answers
scancel --batch --signal=TERM "$job"
wait_for 60 has_state "$job" COMPLETED
echo "slurm-serve.sh: served and drained"

# A server on each node (here one) and a router: the same text over HTTP, and an end in order.
export PORT=$((port + 60)) HTTP=127.0.0.1:$((port + 61)) RANKS=2
job=$(submit docs/deploy/slurm-replicas.sh)
body='{"prompt": "The shared library", "max_tokens": 12, "temperature": 0}'
answers_http() ( # a subshell, which alone SIGPIPE ends where the router has just gone
  exec 3<>"/dev/tcp/127.0.0.1/${HTTP#*:}"
  printf 'POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s' ${#body} "$body" >&3
  grep -qF "\"text\":\"$text\"" <&3
)
wait_for 60 answers_http
first=$(pgrep -f "^$pleat route .*--http $HTTP\$")
kill -KILL "$first"
wait_for 60 answers_http
scancel --batch --signal=TERM "$job"
wait_for 60 has_state "$job" COMPLETED
echo "slurm-replicas.sh: served over HTTP, by a second router when the first was killed, and drained"
