#!/bin/bash
# Train recipe.yaml on several hosts over ssh. The folder must be at the same path on all of them (a shared file system).
#   GPUS=8 launch/ssh.sh recipe.yaml host-a host-b
# Ctrl-C here ends all of them; the same command resumes.
set -eu
recipe=${1:?launch/ssh.sh RECIPE HOST...}
shift
[ "$#" -gt 0 ] || { echo "launch/ssh.sh: name at least one host" >&2; exit 2; }
gpus=${GPUS:-8}
port=${PORT:-29500}
first=$1
folder=$(pwd)

pids=()
trap 'kill -TERM "${pids[@]}" 2>/dev/null || true' INT TERM
node=0
for host in "$@"; do
  # -tt: when this ssh ends, the processes there get a hangup, which ends their step and saves.
  ssh -tt -o BatchMode=yes "$host" \
    "cd $(printf %q "$folder") && exec torchrun --nnodes $# --nproc-per-node $gpus --node-rank $node \
     --master-addr $first --master-port $port -m twofold train $(printf %q "$recipe")" &
  pids+=("$!")
  node=$((node + 1))
done

code=0
for pid in "${pids[@]}"; do
  wait "$pid" || code=$?
done
exit "$code"
