#!/bin/sh
# An experiment in parts under Slurm, one task of a job array a part:
#   sbatch experiments/slurm-array.sh experiments/grid.yaml results
# Tasks that were killed or requeued go on where they were. When all have ended:
#   sdr experiment merge results/shard-* --out results/all
#SBATCH --array=1-16
#SBATCH --cpus-per-task=4
#SBATCH --requeue
set -eu
file=$1
out=$2
exec sdr experiment "$file" \
  --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" \
  --jobs "$SLURM_CPUS_PER_TASK" \
  --out "$out/shard-$SLURM_ARRAY_TASK_ID"
