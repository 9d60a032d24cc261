#!/bin/bash
# Four servers, each on a node of its own, and a router with an HTTP door before them.   sbatch docs/deploy/slurm-replicas.sh
# A server that fails starts again, and meanwhile the others go on with its texts; so does the router.
#SBATCH --job-name=pleat-replicas
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=2
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
set -euo pipefail
: "${MODEL:?a folded or plain model folder that all nodes see}"
: "${PLEAT:=build/pleat}" "${PORT:=7532}" "${HTTP:=$(hostname):8000}" "${RANKS:=${SLURM_NTASKS_PER_NODE:-2}}"

# Without --api-keys and TLS (docs/serving.md) who reaches a port can use it: choose a network that is yours.
replicas=() jobs=()
for node in $(scontrol show hostnames "$SLURM_JOB_NODELIST"); do
  srun --nodes=1 --ntasks=1 --cpus-per-task="${SLURM_CPUS_ON_NODE:-1}" --nodelist="$node" --overlap \
    env -u SLURM_JOB_ID -u SLURM_JOBID "$PLEAT" launch -n "$RANKS" -- serve --model "$MODEL" --listen "$node:$PORT" --grace 60 &
  jobs+=($!)
  replicas+=("$node:$PORT")
done
# srun would kill its servers at SIGTERM, so they are asked to drain.
router= draining=
drain() {
  [ -z "$draining" ] || return 0
  draining=yes
  kill -TERM "$router" 2>/dev/null || true # there may be none just now
  for replica in "${replicas[@]}"; do "$PLEAT" ask "$replica" --drain & done
}
trap drain TERM
# A router without a server is of no use: when all have given up, the end.
{ while kill -0 "${jobs[@]}" 2>/dev/null; do sleep 5; done; kill -TERM $$; } &
watcher=$!
trap 'kill "$watcher" 2>/dev/null || true' EXIT
# A router keeps nothing that matters, so one that fails is started again; with code 2 its options are wrong.
while [ -z "$draining" ]; do
  "$PLEAT" route --grace 60 --replica "${replicas[@]}" --http "$HTTP" &
  router=$!
  [ -z "$draining" ] || kill -TERM "$router"
  code=0
  wait "$router" || code=$?
  [ "$code" != 2 ] || exit 2
  [ -n "$draining" ] || sleep 1
done
for job in "${jobs[@]}" "$router"; do wait "$job" || wait "$job"; done # a trapped signal ends the first wait
