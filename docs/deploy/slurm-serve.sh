#!/bin/bash
# A server on a Slurm cluster: two nodes, four ranks each.   sbatch docs/deploy/slurm-serve.sh
# The job's output says where it listens. Two minutes before its time is over it drains.
#SBATCH --job-name=pleat-serve
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
set -euo pipefail
: "${MODEL:?a folded or plain model folder that all nodes see}"
: "${PLEAT:=build/pleat}" "${PORT:=7532}"

# Rank 0 runs on this node, where this script runs. Beyond it there is no authentication: choose a network that is yours.
address="$(hostname):$PORT"
exec "$PLEAT" launch -- serve --model "$MODEL" --listen "$address" --grace 90
