#!/bin/bash
# A batch job on a Slurm cluster: two nodes, four ranks each.   sbatch docs/deploy/slurm-batch.sh
# A job that ended early goes on where it stopped when it is submitted again: --resume.
#SBATCH --job-name=pleat
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
set -euo pipefail
: "${MODEL:?a folded or plain model folder that all nodes see}" "${INPUT:?a JSONL file}" "${OUTPUT:?where the answers go}"
: "${PLEAT:=build/pleat}"

# Ranks, hosts and cores are the allocation's. Slurm's signals reach this process, which lets the step in flight end.
exec "$PLEAT" launch -- generate --model "$MODEL" --input "$INPUT" --output "$OUTPUT" --resume
